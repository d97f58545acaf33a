package console

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/policy"
)

// shownCertificate is an issued certificate as callers see it.
type shownCertificate struct {
	Serial    string    `json:"serial"` // lower-case hex without separators
	Device    string    `json:"device"`
	Profile   string    `json:"profile"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	KeySHA256 string    `json:"key_sha256"`            // over the SubjectPublicKeyInfo, lower-case hex
	Subject   string    `json:"subject,omitempty"`     // only when one is shown
	URIs      []string  `json:"uris,omitempty"`        // likewise
	PEM       string    `json:"certificate,omitempty"` // likewise

	Revoked *shownRevocation `json:"revoked,omitempty"` // absent where it counts

	// NoRevAvail says that the certificate names no revocation list and no responder
	// (RFC 9608): who takes it without asking here does so until it ends. Only when one is shown.
	NoRevAvail bool `json:"no_rev_avail,omitempty"`
}

// shownRevocation is why a certificate counts no more.
type shownRevocation struct {
	At       time.Time           `json:"at"`
	Reason   ca.RevocationReason `json:"reason"`
	By       string              `json:"by"`       // the operator
	Decision string              `json:"decision"` // the recorded decision behind it
}

func showCertificate(c *ca.Certificate) shownCertificate {
	shown := shownCertificate{
		Serial: c.Serial, Device: c.Device, Profile: c.Profile,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, KeySHA256: hex.EncodeToString(c.KeySHA256[:]),
	}
	if r := c.Revoked; r != nil {
		shown.Revoked = showRevocation(r)
	}
	return shown
}

func showRevocation(r *ca.Revocation) *shownRevocation {
	return &shownRevocation{At: r.At, Reason: r.Reason, By: r.By, Decision: r.Record.String()}
}

func (c *Console) listCertificates(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	before, err := page.position()
	if err != nil {
		return deed{}, err
	}
	valid := call.query("valid")
	filter := ca.Filter{
		Device: call.query("device"), Profile: call.query("profile"), Before: before, Limit: page.ask(),
	}
	if valid == "true" {
		filter.ValidAt, filter.Revoked = call.at, ca.OnlyUnrevoked
	}
	revoked := call.query("revoked")
	switch revoked {
	case "true":
		filter.Revoked = ca.OnlyRevoked
	case "false":
		filter.Revoked = ca.OnlyUnrevoked
	}
	return deed{
		resource:   policy.Entity{Type: "certificate"},
		parameters: policy.Properties{"device": filter.Device, "profile": filter.Profile, "valid": valid == "true", "revoked": revoked},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.Authority.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found,
				func(l ca.Listed) string { return strconv.FormatInt(l.Position, 10) },
				func(l ca.Listed) shownCertificate { return showCertificate(&l.Certificate) }), nil
		},
	}, nil
}

func (c *Console) showCertificate(call *call) (deed, error) {
	return call.about("certificate", "serial", func(ctx context.Context, p policy.Permit, serial string) (answer, error) {
		found, err := c.Authority.Show(ctx, p, serial)
		if err != nil {
			return answer{}, err
		}
		parsed, err := x509.ParseCertificate(found.DER)
		if err != nil {
			return answer{}, err
		}
		shown := showCertificate(found)
		shown.Subject = parsed.Subject.String()
		for _, uri := range parsed.URIs {
			shown.URIs = append(shown.URIs, uri.String())
		}
		shown.NoRevAvail = ca.NoRevAvail(parsed)
		shown.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: found.DER}))
		return ok(shown), nil
	})
}
