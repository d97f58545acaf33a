package openapi

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// kindOfThing is one of a few words.
type kindOfThing string

const (
	round  kindOfThing = "round"
	square kindOfThing = "square"
)

type digest [2]byte

// MarshalText implements encoding.TextMarshaler.
func (d digest) MarshalText() ([]byte, error) { return []byte("00"), nil }

type named struct {
	ID string `json:"id"` // of the thing
}

type thing struct {
	named
	// Kind is its form.
	Kind   kindOfThing       `json:"kind"`
	Parts  []thing           `json:"parts,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Made   time.Time         `json:"made"`
	Ended  *time.Time        `json:"ended"` // null: it is not
	Size   *int              `json:"size,omitempty"`
	Count  uint8             `json:"count"`
	Raw    []byte            `json:"raw"`
	Sum    digest            `json:"sum"`
	Secret string            `json:"-"`
}

// Words and constants are read from files that are no tests, so there are none here.
func TestASchemaIsWhatEncodingJSONWrites(t *testing.T) {
	if round == square {
		t.Fatal("two kinds are one")
	}
	s := NewSchemas(NewSource("github.com/hallmark-pki/hallmark", "../.."))
	if ref := s.Of(reflect.TypeFor[thing]()); ref["$ref"] != "#/components/schemas/Thing" {
		t.Errorf("a named type is %v", ref)
	}
	got, err := json.Marshal(s.Named["Thing"])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"properties":{"count":{"minimum":0,"type":"integer"},"ended":{"format":"date-time","type":["string","null"]},"id":{"type":"string"},` +
		`"kind":{"type":"string"},"labels":{"additionalProperties":{"type":"string"},"type":"object"},"made":{"format":"date-time","type":"string"},` +
		`"parts":{"items":{"$ref":"#/components/schemas/Thing"},"type":"array"},"raw":{"contentEncoding":"base64","type":"string"},` +
		`"size":{"type":"integer"},"sum":{"type":"string"}},"required":["count","ended","id","kind","made","raw","sum"],"type":"object"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestWordsComeFromTheSource describes a type of this package's own files.
func TestWordsComeFromTheSource(t *testing.T) {
	source := NewSource("github.com/hallmark-pki/hallmark", "../..")
	if got := source.Doc(reflect.TypeFor[Source]()); got != "Source is what a module's source says about its types." {
		t.Errorf("the doc comment is %q", got)
	}
	if got := source.Field(reflect.TypeFor[Schemas](), "Source"); got != "where the words and the constants stand" {
		t.Errorf("the field's comment is %q", got)
	}
	if got := source.Named("github.com/hallmark-pki/hallmark/fleet", "State"); len(got) < 4 {
		t.Errorf("the states of a device are %q", got)
	}
	if source.Doc(reflect.TypeFor[time.Time]()) != "" {
		t.Error("another module has words")
	}
}
