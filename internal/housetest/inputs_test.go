package housetest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/policy"
)

// everyInputFits holds what rules were asked, as the record tells it, against
// the schemas of these actions. Each has to be there.
func everyInputFits(t *testing.T, h *housetest.House, actions ...policy.Action) {
	t.Helper()
	client, config := h.Client()
	admin, err := tls.LoadX509KeyPair(filepath.Join(h.Dir, "operators", "admin.crt"), filepath.Join(h.Dir, "operators", "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{admin}
	for _, action := range actions {
		var found struct {
			Items []struct {
				Entry struct {
					Decision struct {
						Input  json.RawMessage
						Policy string
					}
				}
			}
		}
		response, err := client.Get(h.URL + "/api/v1/audit/entries?limit=1000&action=" + string(action))
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(response.Body).Decode(&found)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		for _, item := range found.Items {
			if d := item.Entry.Decision; d.Policy != "" && d.Policy != policy.Builtin {
				asked++
				if err := fits(action, d.Input); err != nil {
					t.Errorf("the schema of %s does not tell this: %v\n%s", action, err, d.Input)
				}
			}
		}
		if asked == 0 {
			t.Errorf("no rules were asked about %s", action)
		}
	}
}

func fits(a policy.Action, input []byte) error {
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema(a)))
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("input.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("input.json")
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(input))
	if err != nil {
		return err
	}
	return compiled.Validate(document)
}
