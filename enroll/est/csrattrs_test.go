package est

import (
	"encoding/asn1"
	"encoding/base64"
	"testing"
)

var (
	p256       = keyWish{algorithm: oidECKey, curve: oidP256}
	clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// Two bodies that openssl asn1parse reads as intended, byte for byte.
func TestCSRAttributes(t *testing.T) {
	for name, c := range map[string]struct {
		wish attributes
		want string
	}{
		"channel binding, P-256, SHA-256": {
			attributes{bare: []asn1.ObjectIdentifier{oidChallengePassword}, key: p256, signature: oidECDSAWithSHA256},
			"MCwGCSqGSIb3DQEJBzAVBgcqhkjOPQIBMQoGCCqGSM49AwEHBggqhkjOPQQDAg==",
		},
		"template, attestation and the old form": {
			attributes{
				template:  &template{organization: "Example Fleet", key: p256, usages: []asn1.ObjectIdentifier{clientAuth}},
				bare:      []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 9, 16, 2, 59}},
				key:       p256,
				signature: oidECDSAWithSHA256,
			},
			"MIG3MIGGBgsqhkiG9w0BCRACPTF3MHUCAQAwITEHMAUGA1UEBTEWMBQGA1UECgwNRXhhbXBsZSBGbGVldKAVMBMGByqGSM49AgEGCCqGSM49AwEHoTYwNAYJKoZIhvcNAQkOMScwJTAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYBBQUHAwIGCyqGSIb3DQEJEAI7MBUGByqGSM49AgExCgYIKoZIzj0DAQcGCCqGSM49BAMC",
		},
	} {
		got, err := c.wish.encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text := base64.StdEncoding.EncodeToString(got); text != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, text, c.want)
		}
	}
}
