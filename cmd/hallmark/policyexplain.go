package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

func policyExplain(c *connection) *cobra.Command {
	var active bool
	explain := &cobra.Command{
		Use:   "explain DECISION",
		Short: "Say which rules made a decision, which came near, and what would have been allowed",
		Example: `  hallmark policy explain 06h0ksg103pjsk82qtkrabgd0k
  hallmark policy explain 06h0ksg103pjsk82qtkrabgd0k --active   # what the rules in force say to it`,
		Args: takes("DECISION"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			q := url.Values{}
			if active {
				q.Set("rules", "active")
			}
			var raw json.RawMessage
			err := s.do(ctx, "GET", "/api/v1/decisions/"+url.PathEscape(args[0])+"/explanation", q, nil, &raw)
			var refused *refusal
			if errors.As(err, &refused) && refused.Code == "rules_gone" {
				return fmt.Errorf("%w\nAsk the rules in force with: hallmark policy explain %s --active", err, args[0])
			}
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(s.out, raw)
			}
			var told explained
			if err := json.Unmarshal(raw, &told); err != nil {
				return fmt.Errorf("the server's answer cannot be read: %w", err)
			}
			return told.print(s.out)
		}),
	}
	explain.Flags().BoolVar(&active, "active", false, "ask the rules in force, instead of those that decided")
	return explain
}

// explained is a decision with its explanation, as the API shows it.
type explained struct {
	Decision    decision          `json:"decision"`
	Explanation release.Explained `json:"explanation"`
}

// print tells it from top to bottom: what was decided, by which rules, what came near, and what would have helped.
func (e *explained) print(w io.Writer) error {
	if err := fields(w, e.head()...); err != nil {
		return err
	}
	var b strings.Builder
	x := &e.Explanation
	switch {
	case x.Rules == policy.Builtin && x.Same:
		b.WriteString("\nThe server itself holds to this, whatever the rules say: none were asked.\n")
		if hint := builtinRemedies[codeOf(e.Decision.Reasons)]; hint != "" {
			fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(hint, "ID", e.Decision.Actor.ID))
		}
	case x.Same && !x.Agrees:
		b.WriteString("\n*** THESE VERY RULES NOW GIVE ANOTHER ANSWER than the one on record. ***\n" +
			"*** The same rules and the same input cannot differ: was the evaluation stopped then or now? If not, check the record: hallmark audit verify ***\n")
	}
	e.printFired(&b)
	e.printNear(&b)
	e.printWays(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// head is what was decided, and by which rules.
func (e *explained) head() [][2]string {
	d, x := &e.Decision, &e.Explanation
	pairs := [][2]string{{"decision", d.ID}, {"time", whenText(d.At)},
		{"asked", fmt.Sprintf("%s %s: %s", d.Actor.Type, d.Actor.ID, d.Action)}, {"about", strings.TrimSpace(d.Object.Type + " " + d.Object.ID)},
		{"on record", answerText(d.Verdict, d.Profile, d.Lifetime)}}
	for _, r := range d.Reasons {
		pairs = append(pairs, [2]string{"  because", r.Code + ": " + r.Detail})
	}
	if x.Rules == policy.Builtin && x.Same {
		return pairs
	}
	again := answerText(x.Verdict, x.Profile, x.Lifetime)
	if x.Agrees {
		again += ", as on record"
	}
	pairs = append(pairs, [2]string{"asked again", again})
	if !x.Agrees {
		for _, r := range x.Reasons {
			pairs = append(pairs, [2]string{"  because", r.Code + ": " + r.Detail})
		}
	}
	source := x.Source
	if !x.Same {
		source += "; others decided: " + d.Policy
	}
	return append(pairs, [2]string{"rules", x.Rules + " (" + source + ")"}, [2]string{"no answer", x.Error})
}

func answerText(verdict, profile, lifetime string) string {
	text := strings.ToUpper(verdict)
	if profile != "" {
		text += " under " + profile
	}
	if lifetime != "" {
		text += " for " + lifetime
	}
	return text
}

func codeOf(reasons []policy.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return reasons[0].Code
}

// builtinRemedies say what helps against refusals of the server itself; ID stands for who asked.
var builtinRemedies = map[string]string{
	"operator_suspended":  "An operator can lift that: hallmark operator resume ID",
	"operator_removed":    "A removed operator does not come back; somebody who has to is taken in under another name: hallmark operator add",
	"certificate_revoked": "An operator can give ID another certificate: hallmark operator certify ID",
	"self_approval":       "Another operator has to approve it.",
	"not_author":          "Its author can withdraw it; others reject it: hallmark policy reject",
}

func (e *explained) printFired(b *strings.Builder) {
	if len(e.Explanation.Fired) == 0 {
		return
	}
	b.WriteString("\nRules that fired\n")
	for _, f := range e.Explanation.Fired {
		printPlace(b, "  ", &f.Place)
		for _, r := range f.Gave {
			fmt.Fprintf(b, "      gave %s: %s\n", escape(r.Code), escape(r.Detail))
		}
	}
}

// printPlace prints where a rule stands, and what it is for.
func printPlace(b *strings.Builder, indent string, p *rego.Place) {
	fmt.Fprintf(b, "%s%s:%d  %s", indent, escape(p.File), p.Line, escape(strings.TrimPrefix(p.Rule, "data.")))
	if p.Title != "" {
		fmt.Fprintf(b, "  %q", escape(p.Title))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Labels)) {
		fmt.Fprintf(b, "  %s=%s", escape(name), valueText(p.Labels[name]))
	}
	b.WriteString("\n")
}

func (e *explained) printNear(b *strings.Builder) {
	if len(e.Explanation.Near) == 0 {
		return
	}
	b.WriteString("\nRules that would have allowed it, and where they stopped\n")
	printNear(b, "  ", e.Explanation.Near)
}

func printNear(b *strings.Builder, indent string, near []rego.Near) {
	for _, n := range near {
		printPlace(b, indent, &n.Place)
		fmt.Fprintf(b, "%s    line %d: %s\n", indent, n.Failed.Line, escape(n.Failed.Text))
		for _, path := range slices.Sorted(maps.Keys(n.Failed.Saw)) {
			fmt.Fprintf(b, "%s      input.%s is %s\n", indent, escape(path), wasText(n.Failed.Saw[path]))
		}
		printNear(b, indent+"    ", n.Behind)
	}
}

func (e *explained) printWays(b *strings.Builder) {
	x := &e.Explanation
	switch {
	case x.Verdict == policy.Allow.String() || x.Rules == policy.Builtin && x.Same:
		return
	case len(x.Ways) == 0 && x.Whole:
		fmt.Fprintf(b, "\nNo small change of what was asked would have been allowed (%d tried).\n", x.Tried)
		return
	case len(x.Ways) == 0:
		fmt.Fprintf(b, "\nNo change was found that would have been allowed; the search was stopped after %d.\n", x.Tried)
		return
	}
	b.WriteString("\nThe smallest change that would have been allowed\n")
	for i, way := range x.Ways {
		if i > 0 {
			b.WriteString("  or\n")
		}
		for j, c := range way {
			fmt.Fprintf(b, "  input.%s: %s → %s\n", escape(strings.Join(c.Path, ".")), wasText(c.Was), toText(&c))
			if remedy := e.remedy(&c); j == len(way)-1 || remedy != e.remedy(&way[j+1]) {
				fmt.Fprintf(b, "      %s\n", escape(remedy))
			}
		}
	}
}

func valueText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return escape(string(text))
}

// wasText is a value of the input, or says that there was none.
func wasText(v any) string {
	if v == nil {
		return "missing"
	}
	return valueText(v)
}

func toText(c *rego.Change) string {
	text := valueText(c.To)
	if c.To == nil {
		text = "missing"
	}
	for _, other := range c.Or {
		text += " or " + valueText(other)
	}
	return text
}

// remedy says who or what could bring a change about, and how.
func (e *explained) remedy(c *rego.Change) string {
	about, asked := e.Decision.Object, e.Decision.Actor
	switch c.Kind {
	case rego.ByOperator:
		return "an operator can change that" + operatorRemedy(c, about.Type, about.ID, asked.ID)
	case rego.OfRequest:
		return "the request itself would have to ask for that"
	case rego.OfTime:
		return "it would have to be asked under such circumstances"
	case rego.ByConfig:
		return "the profile in the server's config.yaml would have to say so"
	case rego.ByEvidence:
		return "the device would have to show that; nobody can show it in its place"
	}
	return "that is somebody or something else: another question, and no remedy"
}

// rolesAsFlags are roles as flags.
func rolesAsFlags(to any) string {
	roles, ok := to.([]any)
	if !ok {
		return " --role …"
	}
	text := ""
	for _, r := range roles {
		text += fmt.Sprintf(" --role %v", r)
	}
	return text
}

// operatorRemedy is the command that brings a change about, where there is one.
func operatorRemedy(c *rego.Change, kind, about, asked string) string {
	path := strings.Join(c.Path, ".")
	switch {
	case path == "resource.properties.state" && c.Was == "quarantined":
		return ", when the device is sound again: hallmark device release " + about
	case path == "resource.properties.state" && c.Was == "retired":
		return " for no device that was retired: a new one takes its place"
	case kind == "device" && strings.HasPrefix(path, "resource.properties."):
		return ": hallmark device import FILE"
	case strings.HasPrefix(path, "subject.properties.roles"), strings.HasPrefix(path, "subject.properties.scopes"):
		return ": hallmark operator assign " + asked + rolesAsFlags(c.To)
	case strings.HasPrefix(path, "context.approval"):
		return ": hallmark request list --device " + about + ", and then hallmark request approve"
	case strings.HasPrefix(path, "context.change.approvals"):
		return ": hallmark policy approve " + about + ", by others than its author"
	}
	return ""
}
