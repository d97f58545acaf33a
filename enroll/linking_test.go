package enroll

import (
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// RFC 7030, Section 3.5: a channel binding that is there has to match, and a
// profile may ask for one.
func TestCheckLinking(t *testing.T) {
	bindings := []string{"dW5pcXVl", "ZXhwb3J0ZXI="}
	for name, story := range map[string]struct {
		csr      ca.CSR
		bindings []string
		required bool
		code     string // empty: passes
	}{
		"none, none asked for":            {ca.CSR{}, bindings, false, ""},
		"none, but asked for":             {ca.CSR{}, bindings, true, "linking_missing"},
		"tls-unique":                      {ca.CSR{Challenge: "dW5pcXVl"}, bindings, true, ""},
		"tls-exporter":                    {ca.CSR{Challenge: "ZXhwb3J0ZXI="}, bindings, true, ""},
		"with white space":                {ca.CSR{Challenge: " ZXhwb3J0\tZXI= "}, bindings, true, ""},
		"as estIdentityLinking":           {ca.CSR{Linking: "dW5pcXVl"}, bindings, true, ""},
		"of another connection":           {ca.CSR{Challenge: "b3RoZXI="}, bindings, false, "linking_failed"},
		"one right and one wrong":         {ca.CSR{Challenge: "dW5pcXVl", Linking: "b3RoZXI="}, bindings, false, "linking_failed"},
		"a part of the right one":         {ca.CSR{Challenge: "dW5pcXV"}, bindings, false, "linking_failed"},
		"where nothing can be computed":   {ca.CSR{Challenge: "dW5pcXVl"}, nil, false, "linking_failed"},
		"asked for, nothing computed":     {ca.CSR{}, nil, true, "linking_missing"},
		"white space alone is no binding": {ca.CSR{Challenge: " "}, bindings, true, "linking_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkLinking(&story.csr, story.bindings, story.required)
			if story.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := fault.Of(err); err == nil || f.Kind != fault.Malformed || f.Code != story.code {
				t.Errorf("got %v, want %s", err, story.code)
			}
		})
	}
}
