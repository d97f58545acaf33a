package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// EncodePEM writes certificates one after the other.
func EncodePEM(certificates ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certificates {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Buffer never fails
	}
	return out.Bytes()
}

// ParsePEM reads the certificates of a PEM file, at least one. Other blocks are errors.
func ParsePEM(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file holds a PEM block %q beside certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file does not parse: %w", len(certificates)+1, err)
		}
		certificates, text = append(certificates, c), rest
	}
	if len(certificates) == 0 || len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("the file is not a list of certificates in PEM")
	}
	return certificates, nil
}
