package console

import (
	"context"
	"io"
	"net/http"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

const jsonType = "application/json"

// addBaseline proposes a baseline that a file describes.
func (c *Console) addBaseline(call *call) (deed, error) {
	if err := call.mediaType(jsonType); err != nil {
		return deed{}, err
	}
	text, err := call.all(attest.MaxBaseline)
	if err != nil {
		return deed{}, err
	}
	b, err := attest.ParseBaseline(text)
	if err != nil {
		return deed{}, err
	}
	b.ID = audit.NewID(call.at).String()
	return deed{
		made:       true,
		resource:   baselineEntity(b.ID, &b),
		parameters: policy.Properties{"source": b.Source},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			added, err := c.Baselines.Add(ctx, p, b)
			return created("/api/v1/baselines/"+b.ID, added), err
		},
	}, nil
}

// all reads a body of at most limit bytes.
func (call *call) all(limit int64) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(call.body, call.Body, limit))
	if err != nil {
		return nil, badJSON(err)
	}
	return text, nil
}

// baselineEntity is a baseline as rules see it.
func baselineEntity(id string, b *attest.Baseline) policy.Entity {
	return policy.Entity{Type: "baseline", ID: id, Properties: policy.Properties{
		"model": b.Model, "firmware": b.Firmware, "state": string(b.State), "created_by": b.By,
	}}
}

// lesson is the body of POST /baselines/learn.
type lesson struct {
	Device   string `json:"device"`             // whose evidence to learn from
	Firmware string `json:"firmware,omitempty"` // what to call the release that it runs; may be empty
	PCRs     []int  `json:"pcrs,omitempty"`     // the registers to learn; empty: all that it quoted
	Refused  bool   `json:"refused,omitempty"`  // from what it was refused for last, instead of what it was accepted with
}

// learnBaseline proposes what a device booted when it was last accepted.
func (c *Console) learnBaseline(call *call) (deed, error) {
	var body lesson
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	if body.Device == "" {
		return deed{}, fault.New(fault.Malformed, "bad_field", "device is missing: a baseline is learned from one device")
	}
	for field, value := range map[string]string{"device": body.Device, "firmware": body.Firmware} {
		if err := checkText(field, value, maxName); err != nil {
			return deed{}, err
		}
	}
	var err error
	id := audit.NewID(call.at).String()
	return deed{
		made:       true,
		resource:   policy.Entity{Type: "baseline", ID: id},
		parameters: policy.Properties{"device": body.Device, "firmware": body.Firmware, "refused": body.Refused},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			l := attest.Lesson{ID: id, Device: body.Device, Firmware: body.Firmware, PCRs: body.PCRs}
			if body.Refused {
				if l.Refused, err = c.sighting(ctx, body.Device); err != nil {
					return answer{}, err
				}
			}
			learned, err := c.Baselines.Learn(ctx, p, l)
			return created("/api/v1/baselines/"+id, learned), err
		},
	}, nil
}

func (c *Console) listBaselines(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	state := call.query("state")
	filter := attest.BaselineFilter{Model: call.query("model"), State: attest.BaselineState(state), Before: page.cursor, Limit: page.ask()}
	return deed{
		resource:   policy.Entity{Type: "baseline"},
		parameters: policy.Properties{"model": filter.Model, "state": state},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.Baselines.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found, func(b attest.Baseline) string { return b.ID }, same), nil
		},
	}, nil
}

func (c *Console) showBaseline(call *call) (deed, error) {
	return call.about("baseline", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		b, err := c.Baselines.Show(ctx, p, id)
		return ok(b), err
	})
}

// activation is the body of POST /baselines/{id}/activate. All of it is optional.
type activation struct {
	Canary string `json:"canary,omitempty"` // label=value of the devices that it is to count for; empty: all of its model
	Reason string `json:"reason,omitempty"`
}

func (c *Console) activateBaseline(call *call) (deed, error) {
	var body activation
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	if err := checkText("canary", body.Canary, maxName); err != nil {
		return deed{}, err
	}
	to := attest.Active
	if body.Canary != "" {
		to = attest.Canary
	}
	d, err := c.aboutBaseline(call, body.Reason, func(ctx context.Context, p policy.Permit, id string) error {
		return c.Baselines.Activate(ctx, p, attest.Activation{ID: id, To: to, Canary: body.Canary, Reason: body.Reason})
	})
	if err != nil {
		return deed{}, err
	}
	d.parameters["to"], d.parameters["canary"] = string(to), body.Canary
	return d, nil
}

func (c *Console) deprecateBaseline(call *call) (deed, error) {
	return c.endBaseline(call, c.Baselines.Deprecate)
}

func (c *Console) denyBaseline(call *call) (deed, error) {
	return c.endBaseline(call, c.Baselines.Deny)
}

func (c *Console) endBaseline(call *call, end func(ctx context.Context, p policy.Permit, id, reason string) error) (deed, error) {
	var body reasoned
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	return c.aboutBaseline(call, body.Reason, func(ctx context.Context, p policy.Permit, id string) error {
		return end(ctx, p, id, body.Reason)
	})
}

// aboutBaseline is a change of the baseline that the path names. Rules see whose
// it is and what it is for; it is answered with the baseline as it then stands.
func (c *Console) aboutBaseline(call *call, reason string, change func(ctx context.Context, p policy.Permit, id string) error) (deed, error) {
	id, err := call.name("id")
	if err != nil {
		return deed{}, err
	}
	if err := checkText("reason", reason, maxReason); err != nil {
		return deed{}, err
	}
	known, err := c.Baselines.Find(call.Context(), id)
	if err != nil && !fault.Is(err, fault.NotFound) { // whether there is one is for the permitted to learn
		return deed{}, err
	}
	return deed{
		resource:   baselineEntity(id, &known),
		parameters: policy.Properties{"reason": reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			if err := change(ctx, p, id); err != nil {
				return answer{}, err
			}
			b, err := c.Baselines.Find(ctx, id)
			return ok(b), err
		},
	}, nil
}
