package est

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	wholeRequest = `{"len": 16, "other": [1], "reqTypeInfo": {"type": "` + typeTPMRequest + `", "more": {}, "reqInfo": {"hashAlgs": ["sha1", "sha384"], "akPub": "AQI", "ekPub": "AwQ", "ekCerts": ["MAA", "MAE"], "x": null}}}`
	inTPM        = `{"reqTypeInfo": {"type": "` + typeTPMRequest + `", "reqInfo": `
)

func TestParseNonceRequest(t *testing.T) {
	var ask enroll.Ask
	if foreign, err := parseNonceRequest([]byte(wholeRequest), &ask); err != nil || foreign {
		t.Fatal(foreign, err)
	}
	if ask.Length != 16 || strings.Join(ask.Hashes, " ") != "sha1 sha384" || string(ask.AKPublic) != "\x01\x02" || string(ask.EKPublic) != "\x03\x04" ||
		len(ask.EKCerts) != 2 || string(ask.EKCerts[1]) != "0\x01" {
		t.Errorf("got %+v", ask)
	}
	for body, length := range map[string]int{
		`{}`: 0, " {\"len\": 8}\n": 8, `{"len": 64}`: 64, `{"len": null, "reqTypeInfo": null}`: 0, `{"len":32,"reqTypeInfo":{"type":"` + typeTPMRequest + `","reqInfo":{}}}`: 32,
	} {
		var ask enroll.Ask
		if foreign, err := parseNonceRequest([]byte(body), &ask); err != nil || foreign || ask.Length != length || ask.AKPublic != nil {
			t.Errorf("%s: %+v, %v, %v", body, ask, foreign, err)
		}
	}
	if foreign, err := parseNonceRequest([]byte(`{"reqTypeInfo": {"type": "1.2.3", "reqInfo": "any"}}`), &enroll.Ask{}); err != nil || !foreign {
		t.Errorf("a foreign type: %v, %v", foreign, err)
	}
}

func TestParseNonceRequestRefuses(t *testing.T) {
	many := strings.Repeat(`"MAA",`, 11)
	for _, body := range []string{
		"", "null", "[]", "{", "{}{}", "\"{}\"", "32", `{"len": "32"}`, `{"len": 32.5}`, `{"len": 7}`, `{"len": 65}`, `{"len": -32}`, `{"len": 1e99}`,
		`{"reqTypeInfo": []}`, `{"reqTypeInfo": {}}`, `{"reqTypeInfo": {"type": 1}}`, `{"reqTypeInfo": {"type": "` + typeTPMRequest + `"}}`,
		inTPM + `[]}}`, inTPM + `{"hashAlgs": "sha256"}}}`, inTPM + `{"hashAlgs": [1]}}}`, inTPM + `{"hashAlgs": [` + strings.Repeat(`"a",`, 16) + `"a"]}}}`,
		inTPM + `{"akPub": "AQI="}}}`, inTPM + `{"akPub": "A+/I"}}}`, inTPM + `{"akPub": "A"}}}`, inTPM + `{"akPub": "AB"}}}`, inTPM + `{"akPub": "A\nQI"}}}`, inTPM + `{"akPub": 1}}}`, inTPM + `{"akPub": ["AQI"]}}}`,
		inTPM + `{"ekPub": "AQI"}}}`, inTPM + `{"akPub": "AQI", "ekCerts": ["MAA"]}}}`, inTPM + `{"ekCerts": ["MAA"]}}}`,
		inTPM + `{"akPub": "AQI", "ekPub": "AQI", "ekCerts": [` + many + `"MAA"]}}}`, inTPM + `{"akPub": "AQI", "ekPub": "AQI", "ekCerts": "MAA"}}}`, inTPM + `{"akPub": "AQI", "ekPub": "AQI", "ekCerts": [null]}}}`,
	} {
		if foreign, err := parseNonceRequest([]byte(body), &enroll.Ask{}); !fault.Is(err, fault.Malformed) || fault.Of(err).Code != "nonce_malformed" {
			t.Errorf("%s: %v, %v", body, foreign, err)
		}
	}
}

func TestLayOut(t *testing.T) {
	a := &enroll.Answer{Nonce: []byte{0xfb, 0xff, 1}, Expiry: 5 * time.Minute, Bank: "sha384", PCRs: []int{0, 7},
		Activation: &tpm.Activation{CredentialBlob: []byte{1}, EncryptedSecret: []byte{2}}}
	want := `{"nonce":"-_8B","expiry":300,"respTypeInfo":{"type":"` + typeTPMAnswer + `","respInfo":{` +
		`"tpm20-pcr-selection":[{"tpm20-hash-algo":"TPM_ALG_SHA384","pcr-index":[0,7]}],"quote":true,"eventLog":true,"certify":true,` +
		`"activation":{"credentialBlob":"AQ","encryptedSecret":"Ag"}}}}` + "\n"
	if body, err := layOut(a, false); err != nil || string(body) != want {
		t.Errorf("got %s, %v", body, err)
	}
	a.Activation = nil
	if body, err := layOut(a, false); err != nil || strings.Contains(string(body), "activation") {
		t.Errorf("without activation: %s, %v", body, err)
	}
	if body, err := layOut(a, true); err != nil || string(body) != `{"nonce":"-_8B","expiry":300}`+"\n" {
		t.Errorf("to a foreign type: %s, %v", body, err)
	}
}

// Whatever comes is refused as malformed, or is within the bounds.
func FuzzParseNonceRequest(f *testing.F) {
	for _, seed := range []string{wholeRequest, `{}`, `{"len": 65}`, inTPM + `{"ekPub": "AQI"}}}`, `{"reqTypeInfo": {"type": "1.2.3", "reqInfo": "any"}}`, "null", "{}{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var ask enroll.Ask
		foreign, err := parseNonceRequest(body, &ask)
		switch {
		case err != nil:
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("%q: %v", body, err)
			}
			return
		case !json.Valid(body):
			t.Errorf("%q is no JSON", body)
		case ask.Length != 0 && (ask.Length < minNonce || ask.Length > maxNonce), len(ask.EKCerts) > maxEKCerts, len(ask.Hashes) > maxHashAlgs:
			t.Errorf("%q: %+v", body, ask)
		case foreign && (ask.AKPublic != nil || ask.EKPublic != nil):
			t.Errorf("%q: read what is foreign", body)
		case len(ask.AKPublic) == 0 && (len(ask.EKPublic) > 0 || len(ask.EKCerts) > 0):
			t.Errorf("%q: an activation without a key", body)
		}
	})
}
