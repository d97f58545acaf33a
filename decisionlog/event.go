package decisionlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// Event is one decision as OPA's decision log tells of it: the members of its
// EventV1 (OPA 1.22, plugins/logs) that there is something to say about.
type Event struct {
	Labels      map[string]string `json:"labels"`
	DecisionID  string            `json:"decision_id"`
	Bundles     map[string]Bundle `json:"bundles,omitempty"` // none where no rules were asked
	Path        string            `json:"path,omitempty"`
	Input       any               `json:"input,omitempty"`
	Result      any               `json:"result,omitempty"`
	Erased      []string          `json:"erased,omitempty"`       // what masks took out
	Masked      []string          `json:"masked,omitempty"`       // what masks put something else for
	RequestedBy string            `json:"requested_by,omitempty"` // IP address of the caller
	Timestamp   time.Time         `json:"timestamp"`
	RuleLabels  []map[string]any  `json:"rule_labels,omitempty"`
	Custom      map[string]any    `json:"custom,omitempty"` // one member, hallmark: see Note
}

// Bundle says which rules were asked.
type Bundle struct {
	Revision string `json:"revision,omitempty"` // the digest that the record names them by
}

// Note is what OPA's format has no member for.
type Note struct {
	Index      int64         `json:"index"` // in the record's tree, where the whole decision stands; -1: not yet
	Outcome    audit.Outcome `json:"outcome"`
	RuleLabels string        `json:"rule_labels,omitempty"` // why there are none: rules_gone, no_answer, no_rules or failed
	Mask       string        `json:"mask,omitempty"`        // failed: nobody knows what was to be masked, so input and result are out
}

// What events name.
const (
	pathOfRules   = "hallmark/decision" // data.hallmark.decision, as OPA writes it
	pathOfBuiltin = "hallmark/builtin"  // the server itself refused
	bundleName    = "hallmark"
)

// leaf is what is read of an entry of the record.
type leaf struct {
	ID       audit.ID      `json:"id"`
	At       time.Time     `json:"at"`
	Outcome  audit.Outcome `json:"outcome"`
	Source   string        `json:"source"`
	Decision *struct {
		Input  json.RawMessage `json:"input"`
		Policy string          `json:"policy"`
		answer
	} `json:"decision"`
}

// answer is the decision as rules give it.
type answer struct {
	Verdict     string          `json:"verdict"`
	Reasons     []policy.Reason `json:"reasons,omitempty"`
	Profile     string          `json:"profile,omitempty"`
	Lifetime    string          `json:"lifetime,omitempty"`
	Obligations json.RawMessage `json:"obligations,omitempty"`
}

// errNoDecision says that an entry tells of something else than a decision.
var errNoDecision = errors.New("the entry carries no decision")

// draft is an event to which labels and masks are still to be applied.
type draft struct {
	Event
	note   Note
	policy string // digest
	input  map[string]any
	failed bool // the rules gave no answer
}

// read makes a draft of an entry, or returns errNoDecision.
func read(e audit.Entry) (*draft, error) {
	var l leaf
	if err := json.Unmarshal(e.Leaf, &l); err != nil {
		return nil, fmt.Errorf("reading entry %d of the record: %w", e.Index, err)
	}
	if l.Decision == nil {
		return nil, errNoDecision
	}
	d := &draft{policy: l.Decision.Policy, note: Note{Index: e.Index, Outcome: l.Outcome}}
	d.DecisionID, d.Timestamp, d.RequestedBy, d.Path = l.ID.String(), l.At.UTC(), l.Source, pathOfBuiltin
	if d.policy != policy.Builtin && d.policy != "" {
		d.Path, d.Bundles = pathOfRules, map[string]Bundle{bundleName: {d.policy}}
	}
	if err := decode(l.Decision.Input, &d.input); err != nil {
		return nil, fmt.Errorf("reading the input of decision %s: %w", d.DecisionID, err)
	}
	if d.input != nil {
		d.Input = d.input
	}
	text, err := json.Marshal(l.Decision.answer)
	if err == nil {
		err = decode(text, &d.Result)
	}
	if r := l.Decision.Reasons; len(r) > 0 && r[0].Code == "policy_error" {
		d.failed = true
	}
	return d, err
}

// decode reads JSON so that rules take it as they did: whole numbers stay whole.
func decode(text []byte, into any) error {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	switch v := into.(type) {
	case *map[string]any:
		whole(*v)
	case *any:
		*v = whole(*v)
	}
	return nil
}

// whole turns numbers into the integers that policy.Properties allows, in place.
func whole(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	case map[string]any:
		for name, member := range v {
			v[name] = whole(member)
		}
	case []any:
		for i, element := range v {
			v[i] = whole(element)
		}
	}
	return v
}

// document is the event as rules about the log see it, which OPA hands to them likewise.
func (d *draft) document() map[string]any {
	labels := make(map[string]any, len(d.Labels))
	for name, value := range d.Labels {
		labels[name] = value
	}
	document := map[string]any{"labels": labels, "decision_id": d.DecisionID, "path": d.Path, "timestamp": d.Timestamp.Format(time.RFC3339Nano)}
	if d.Bundles != nil {
		document["bundles"] = map[string]any{bundleName: map[string]any{"revision": d.policy}}
	}
	for name, value := range map[string]any{"input": d.Input, "result": d.Result} {
		if value != nil {
			document[name] = value
		}
	}
	if d.RequestedBy != "" {
		document["requested_by"] = d.RequestedBy
	}
	return document
}

// finish returns the event. The caller's address stands in the input, too, and what
// masks have made of it there goes for both places.
func (d *draft) finish() *Event {
	d.RequestedBy = ""
	if input, ok := d.Input.(map[string]any); ok {
		if around, ok := input["context"].(map[string]any); ok {
			d.RequestedBy, _ = around["ip"].(string)
		}
	}
	d.Custom = map[string]any{"hallmark": d.note}
	return &d.Event
}
