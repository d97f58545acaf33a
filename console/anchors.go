package console

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// newAnchor is the body of POST /anchors.
type newAnchor struct {
	Profile     string            `json:"profile"`
	Kind        enroll.AnchorKind `json:"kind"`
	Certificate string            `json:"certificate"` // one, in PEM
}

// shownAnchor is an anchor as callers see it.
type shownAnchor struct {
	enroll.Anchor
	NotAfter time.Time `json:"not_after"`
	PEM      string    `json:"certificate"`
}

func showAnchor(a enroll.Anchor) shownAnchor {
	shown := shownAnchor{Anchor: a, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.DER}))}
	if cert, err := x509.ParseCertificate(a.DER); err == nil {
		shown.NotAfter = cert.NotAfter
	}
	return shown
}

func (c *Console) addAnchor(call *call) (deed, error) {
	var body newAnchor
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	if body.Profile == "" {
		return deed{}, fault.New(fault.Malformed, "bad_field", "profile is missing: an anchor is trusted by one profile")
	}
	if err := checkText("profile", body.Profile, maxName); err != nil {
		return deed{}, err
	}
	anchors, err := c.Anchors.Parse(body.Profile, body.Kind, []byte(body.Certificate))
	if err != nil {
		return deed{}, err
	}
	if len(anchors) > 1 {
		return deed{}, fault.New(fault.Malformed, "bad_field", "certificate holds more than one: each takes a call of its own")
	}
	anchor := anchors[0]
	if err := checkText("the certificate's subject", anchor.Subject, maxReason); err != nil { // a maker may write anything there
		return deed{}, err
	}
	return deed{
		resource: policy.Entity{Type: "anchor", ID: anchor.ID},
		parameters: policy.Properties{
			"profile": anchor.Profile, "kind": string(anchor.Kind), "subject": anchor.Subject,
		},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			added, err := c.Anchors.Add(ctx, p, anchor)
			return created("/api/v1/anchors/"+added.ID, showAnchor(added)), err
		},
	}, nil
}

func (c *Console) listAnchors(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	profile, kind := call.query("profile"), enroll.AnchorKind(call.query("kind"))
	return deed{
		resource:   policy.Entity{Type: "anchor"},
		parameters: policy.Properties{"profile": profile, "kind": string(kind)},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			anchors, err := c.Anchors.List(ctx, p, profile, kind)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, after(anchors, page.cursor), anchorCursor, showAnchor), nil
		},
	}, nil
}

// anchorCursor names one anchor among all: the same certificate may stand for several profiles.
func anchorCursor(a enroll.Anchor) string {
	return a.ID + "/" + a.Profile + "/" + string(a.Kind)
}

// after leaves out the anchors up to and including the one at cursor. They are
// few (makers, not devices), so the store has no paging of them.
func after(anchors []enroll.Anchor, cursor string) []enroll.Anchor {
	if cursor == "" {
		return anchors
	}
	for i, a := range anchors {
		if anchorCursor(a) == cursor {
			return anchors[i+1:]
		}
	}
	return nil
}

func (c *Console) removeAnchor(call *call) (deed, error) {
	id, err := call.name("id")
	if err != nil {
		return deed{}, err
	}
	profile := call.query("profile")
	return deed{
		resource:   policy.Entity{Type: "anchor", ID: id},
		parameters: policy.Properties{"profile": profile},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), c.Anchors.Remove(ctx, p, id, profile)
		},
	}, nil
}
