package console

import (
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hallmark-pki/hallmark/internal/openapi"
)

// examples are bodies as they may be sent, by the names of their schemas, and a problem.
var examples = map[string]string{
	"Activation":            `{"canary":"site=lab","reason":"first in the lab"}`,
	"DeviceHandle":          `{"handle":"w0dVVyWbNXtBbnLgkHVmVg"}`,
	"Enactment":             `{"stage":"percent","percent":5,"reason":"a first share"}`,
	"Lesson":                `{"device":"gw-0001","firmware":"2.4","pcrs":[0,2,4,7]}`,
	"LoginCode":             `{"code":"n4bQgYhMfWWaL","verifier":"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}`,
	"NewAnchor":             `{"profile":"device","kind":"idevid","certificate":"-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n"}`,
	"NewBaseline":           `{"model":"gw-200","firmware":"2.4","pcrs":{"sha256":{"0":["a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7"]}}}`,
	"NewBinding":            `{"oidc_email":"lin@example.com"}`,
	"NewOperator":           `{"name":"lin","roles":[{"role":"line","scope":{"model":"gw-200"}}],"csr":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB…\n-----END CERTIFICATE REQUEST-----\n"}`,
	"NewRoles":              `{"roles":[{"role":"viewer"}]}`,
	"NewSeal":               `{"csr":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB…\n-----END CERTIFICATE REQUEST-----\n"}`,
	"NewToken":              `{"device":"gw-0001","uses":1,"ttl":"7d"}`,
	"Opening":               `{"csr":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB…\n-----END CERTIFICATE REQUEST-----\n","reason":"nobody is left who may sign in"}`,
	"Reasoned":              `{"reason":"odd traffic since Monday"}`,
	"Rehearsal":             `{"last":"7d"}`,
	"Request":               `{"csr":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB…\n-----END CERTIFICATE REQUEST-----\n"}`,
	"OperatorRevocation":    `{"all":true,"reason":"laptop lost"}`,
	"CertificateRevocation": `{"reason":"superseded"}`,
	"NewRevocationTarget":   `{"device":"gw-0001","reason":"keyCompromise"}`,
	"Vote":                  `{"digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","note":"looked at the replay"}`,
	"WayBack":               `{"to":3,"reason":"renewals refused in plant 2"}`,
	"Problem": `{"type":"urn:hallmark:problem:denied","title":"Forbidden","status":403,"detail":"operator lin may not do device.retire",
		"code":"not_permitted","ref":"06h0ksg5d2uuium4pdeo3mdnjg","decision":"06h0ksg5d2uuium4pdeo3mdnjg"}`,
}

// illustrate adds the examples to the schemas.
func illustrate(schemas map[string]openapi.Schema) {
	for name, text := range examples {
		if schema := schemas[name]; schema != nil {
			schema["examples"] = []json.RawMessage{json.RawMessage(text)}
		}
	}
}

func TestEveryBodyHasAnExampleThatIsOne(t *testing.T) {
	spec, err := contract()
	check(t, err)
	wanted := map[string]bool{"Problem": true}
	for _, item := range spec.Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.RequestBody == nil || operation.RequestBody.Value.Content[jsonType] == nil {
				continue
			}
			if ref := operation.RequestBody.Value.Content[jsonType].Schema.Ref; len(ref) > len(toSchemas) {
				wanted[ref[len(toSchemas):]] = true
			}
		}
	}
	for name := range wanted {
		var value any
		if err := json.Unmarshal([]byte(examples[name]), &value); err != nil {
			t.Errorf("%s has no example: %v", name, err)
			continue
		}
		if err := spec.Components.Schemas[name].Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("the example of %s is none: %v", name, err)
		}
	}
	for name := range examples {
		if !wanted[name] {
			t.Errorf("the example of %s is of nothing that is sent", name)
		}
	}
}
