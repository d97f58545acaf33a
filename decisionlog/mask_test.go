package decisionlog

import (
	"encoding/json"
	"testing"
)

func fromJSON(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := decode([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConfiguredMasks(t *testing.T) {
	const input = `{"a":{"b":[1,2,{"c":3}],"d":{"c":4}},"e f":5}`
	for _, c := range []struct{ masks, input, erased, masked string }{
		{`["/input/a/b"]`, `{"a":{"d":{"c":4}},"e f":5}`, `["/input/a/b"]`, `null`},
		{`["/input/a/b/0","/input/a/b/1"]`, `{"a":{"b":[{"c":3}],"d":{"c":4}},"e f":5}`, `["/input/a/b/0","/input/a/b/1"]`, `null`},
		{`["/input/a/*/c"]`, `{"a":{"b":[1,2,{"c":3}],"d":{}},"e f":5}`, `["/input/a/d/c"]`, `null`},
		{`["/input/a/b/*"]`, `{"a":{"b":[],"d":{"c":4}},"e f":5}`, `["/input/a/b/0","/input/a/b/1","/input/a/b/2"]`, `null`},
		{`["/input/a/*/*/c"]`, `{"a":{"b":[1,2,{}],"d":{"c":4}},"e f":5}`, `["/input/a/b/2/c"]`, `null`},
		{`[{"op":"upsert","path":"/input/a/*","value":"x"}]`, `{"a":{"b":"x","d":"x"},"e f":5}`, `null`, `["/input/a/b","/input/a/d"]`},
		{`[{"op":"upsert","path":"/input/new/deep","value":[1]}]`, `{"a":{"b":[1,2,{"c":3}],"d":{"c":4}},"e f":5,"new":{"deep":[1]}}`, `null`, `["/input/new/deep"]`},
		{`["/input/e%20f","/input/no/such","/input/a/b/9","/input/a/b/x"]`, `{"a":{"b":[1,2,{"c":3}],"d":{"c":4}}}`, `["/input/e%20f"]`, `null`},
		{`["/input/e f"]`, `{"a":{"b":[1,2,{"c":3}],"d":{"c":4}}}`, `["/input/e%20f"]`, `null`},
		{`["/input"]`, `null`, `["/input"]`, `null`},
		{`["/result","/nd_builtin_cache/x"]`, input, `["/result"]`, `null`},
		{`[{"op":"upsert","path":"/input","value":{"x":1}},{"op":"remove","path":"/input/x"}]`, `{}`, `["/input/x"]`, `["/input"]`},
	} {
		e := Event{Input: fromJSON(t, input), Result: fromJSON(t, `{"verdict":"allow"}`)}
		var masks []Mask
		for _, v := range fromJSON(t, c.masks).([]any) {
			m, err := ParseMask(v)
			if err != nil {
				t.Fatal(err)
			}
			masks = append(masks, m)
		}
		e.apply(masks)
		if toJSON(t, e.Input) != toJSON(t, fromJSON(t, c.input)) || toJSON(t, e.Erased) != c.erased || toJSON(t, e.Masked) != c.masked {
			t.Errorf("%s makes of it %s, erased %s, masked %s", c.masks, toJSON(t, e.Input), toJSON(t, e.Erased), toJSON(t, e.Masked))
		}
	}
}

func TestMasksThatMeanNothing(t *testing.T) {
	for _, text := range []string{`""`, `"input"`, `"/"`, `"/labels/x"`, `"/decision_id"`, `"/input/%zz"`, `1`, `null`, `{}`,
		`{"path":"/input/a"}`, `{"op":"erase","path":"/input/a"}`, `{"op":"remove"}`, `{"op":1,"path":"/input/a"}`, `["/input"]`} {
		if m, err := ParseMask(fromJSON(t, text)); err == nil {
			t.Errorf("%s is taken for %+v", text, m)
		}
	}
}
