package estclient

import (
	"strings"
	"testing"
)

const challenge = `{"nonce":"AAECAwQFBgc","expiry":300,"respTypeInfo":{"type":"2.25.197995676531165126923878663687273591694.2",
	"respInfo":{"tpm20-pcr-selection":[{"tpm20-hash-algo":"TPM_ALG_SHA256","pcr-index":[0,7]}],"quote":true,"eventLog":true,"certify":true,
	"activation":{"credentialBlob":"AAE","encryptedSecret":"AgM"}}}}`

func TestReadChallenge(t *testing.T) {
	c, err := readChallenge([]byte(challenge))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Nonce) != 8 || c.Bank != "sha256" || len(c.PCRs) != 2 || !c.Certify || !c.EventLog || len(c.CredentialBlob) != 2 || len(c.EncryptedSecret) != 2 {
		t.Errorf("%+v", c)
	}
	plain, err := readChallenge([]byte(`{"nonce":"AAECAwQFBgc"}`))
	if err != nil || !plain.Certify || plain.PCRs != nil {
		t.Errorf("a nonce and nothing else: %+v, %v", plain, err)
	}
	for name, body := range map[string]string{
		"not JSON":       "nonce",
		"two":            challenge + challenge,
		"padded":         `{"nonce":"AAECAwQFBg=="}`,
		"too long":       `{"nonce":"` + strings.Repeat("A", 100) + `"}`,
		"another type":   strings.Replace(challenge, "694.2", "694.3", 1),
		"no bank":        strings.Replace(challenge, `{"tpm20-hash-algo":"TPM_ALG_SHA256","pcr-index":[0,7]}`, "", 1),
		"no PCR":         strings.Replace(challenge, "[0,7]", "[]", 1),
		"of other types": `{"nonce":7}`,
	} {
		if _, err := readChallenge([]byte(body)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A server can send anything.
func FuzzReadChallenge(f *testing.F) {
	f.Add([]byte(challenge))
	f.Add([]byte(`{"nonce":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := readChallenge(body)
		if err == nil && len(c.Nonce) > 64 {
			t.Errorf("%+v", c)
		}
	})
}
