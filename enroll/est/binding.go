package est

import (
	"crypto/tls"
	"encoding/base64"

	"github.com/hallmark-pki/hallmark/ca"
)

// bindings returns the values that tie a CSR to this connection (RFC 7030,
// Section 3.5), as base64: tls-unique (RFC 5929) up to TLS 1.2, and tls-exporter
// (RFC 9266) on TLS 1.3 and wherever the extended master secret makes exporters
// safe. Go leaves tls-unique out on resumed connections where it would not be
// unique. A CSR that makes no claim needs none computed.
func bindings(state *tls.ConnectionState, csr *ca.CSR) []string {
	if csr.Linking == "" && csr.Challenge == "" {
		return nil
	}
	var values []string
	if len(state.TLSUnique) > 0 {
		values = append(values, base64.StdEncoding.EncodeToString(state.TLSUnique))
	}
	// RFC 9266, Section 2: an empty context, which TLS 1.2 tells from none.
	exported, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	if err == nil {
		values = append(values, base64.StdEncoding.EncodeToString(exported))
	}
	return values
}
