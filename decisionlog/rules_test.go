package decisionlog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/decisionlog"
)

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMasksOfRules: what the rules take out is out, wherever it stands; and the record stays whole.
func TestMasksOfRules(t *testing.T) {
	h := newHouse(t, map[string]string{"mask.rego": `package system.log

mask contains "/input/context/ip"

mask contains {"op": "upsert", "path": "/input/subject/id", "value": "somebody"} if input.input.subject.type == "user"

mask contains sprintf("/input/resource/properties/tags/%d", [i]) if {
	some i, tag in input.input.resource.properties.tags
	tag != "b"
}

drop if input.input.resource.id == "quiet"
`})
	id, quiet := h.ask("ada", "device.show", "d1"), h.ask("ada", "device.show", "quiet")
	h.sequence()
	text := toJSON(t, h.event(h.scribe(), id))
	for _, gone := range []string{"192.0.2.7", "ada", `"a"`, `"c"`} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is still in %s", gone, text)
		}
	}
	for _, there := range []string{`"tags":["b"]`, `"id":"somebody"`, `"erased":["/input/context/ip","/input/resource/properties/tags/0","/input/resource/properties/tags/2"]`, `"masked":["/input/subject/id"]`} {
		if !strings.Contains(text, there) {
			t.Errorf("%s is not in %s", there, text)
		}
	}
	if e := h.event(h.scribe(), quiet); e != nil {
		t.Errorf("it was to be dropped: %+v", e)
	}
	entries, err := h.db.Leaves(t.Context(), 0, 1)
	if err != nil || !strings.Contains(string(entries[0]), "192.0.2.7") {
		t.Errorf("the record has changed: %s, %v", entries, err)
	}
	s := h.scribe()
	m, err := decisionlog.ParseMask("/input/resource")
	if s.Masks = []decisionlog.Mask{m}; err != nil || strings.Contains(toJSON(t, h.event(s, id)), "SN-7") {
		t.Error("a configured mask does not come after those of the rules")
	}
}

// TestBrokenMasks: nobody knows what was to be masked, so everything is.
func TestBrokenMasks(t *testing.T) {
	for name, rules := range map[string]string{
		"no pointer":    "package system.log\n\nmask contains \"input\"\n",
		"no op":         "package system.log\n\nmask contains {\"path\": \"/input/a\"}\n",
		"number":        "package system.log\n\nmask := 7\n",
		"conflict":      "package system.log\n\nmask := [] if input.path\n\nmask := [\"/input\"] if input.decision_id\n",
		"type error":    "package system.log\n\nmask contains x if x := to_number(input.decision_id)\n",
		"too many":      "package system.log\n\nmask contains x if {\n\tsome a in split(\"" + strings.Repeat("x,", 40) + "\", \"\")\n\tsome i, _ in split(\"" + strings.Repeat("x,", 1200) + "\", \",\")\n\tx := sprintf(\"/input/%s%d\", [a, i])\n}\n",
		"drop is seven": "package system.log\n\ndrop := 7\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, map[string]string{"mask.rego": rules})
			id := h.ask("ada", "device.show", "d1")
			h.sequence()
			e := h.event(h.scribe(), id)
			text := toJSON(t, e)
			if e.Input != nil || e.Result != nil || toJSON(t, e.Erased) != `["/input","/result"]` || strings.Contains(text, "192.0.2.7") || !strings.Contains(text, `"mask":"failed"`) {
				t.Errorf("%s", text)
			}
			sink := newReceiver(t)
			total := h.forward(sink.plan(h), func(s decisionlog.Step) bool { return s.Sent > 0 && s.Waiting == 0 })
			if total.Blotted != 1 || len(sink.ids()) != 1 {
				t.Errorf("%+v", total)
			}
		})
	}
}
