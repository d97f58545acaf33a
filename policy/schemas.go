package policy

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// schemas.json says of each action what rules are asked with: members by
// their names, and for each a word of what it is, or again members. "*" stands for members of any name.
//
//go:embed schemas.json
var schemas []byte

// members are those of one object.
type members map[string]json.RawMessage

// shapes is what schemas.json holds.
type shapes struct {
	People        members            `json:"people"`
	Devices       members            `json:"devices"`
	Around        members            `json:"around"`
	AroundPeople  members            `json:"around people"`
	AroundDevices members            `json:"around devices"`
	Device        members            `json:"device"`    // of the resource, where it is a device
	Belonging     members            `json:"belonging"` // of the resource, where it belongs to one
	Things        map[string]members `json:"things"`    // of the resource, by its type
	Enrolment     members            `json:"enrolment"`
	ActionMembers map[Action]members `json:"actions"`
}

// Schema returns the JSON schema (draft 2020-12) of the input that rules see
// when that action is asked; nil for an action that there is not. It is put together with each call.
func Schema(a Action) json.RawMessage {
	var s shapes
	if err := json.Unmarshal(schemas, &s); err != nil {
		panic("policy: schemas.json is not what it should be: " + err.Error()) // cannot happen: every test reads it
	}
	asked, ok := s.ActionMembers[a]
	if !ok || !a.Known() {
		return nil
	}
	kind, who, around, by := resourceOf(a), "user", s.AroundPeople, s.People
	if !slices.Contains(OperatorActions(), a) {
		who, around, by, asked = "device", s.AroundDevices, s.Devices, s.Enrolment
	}
	thing := union(s.Things[kind])
	switch kind {
	case "device":
		thing = s.Device
	case "certificate", "token", "request", "baseline", "decision":
		thing = union(s.Belonging, s.Things[kind])
	}
	text, subject := object{"type": "string"}, one(who)
	if a == ProposePolicy { // bundle servers do, too
		subject, by = object{"enum": []string{"user", "service"}}, union(by, members{"signed": json.RawMessage(`"flag"`)})
	}
	document := closed(object{
		"subject":  closed(object{"type": subject, "id": text, "properties": s.schema(by)}),
		"action":   closed(object{"name": one(string(a)), "properties": s.schema(asked)}),
		"resource": closed(object{"type": one(kind), "id": text, "properties": s.schema(thing)}),
		"context":  s.schema(union(s.Around, around)),
	})
	document["$schema"], document["title"] = "https://json-schema.org/draft/2020-12/schema", string(a)
	schema, err := json.Marshal(document)
	if err != nil {
		panic("policy: a schema cannot be written: " + err.Error()) // cannot happen: it is of maps and text
	}
	return schema
}

// resourceOf is the type of what an action is done to: its noun, mostly.
func resourceOf(a Action) string {
	noun, _, _ := strings.Cut(string(a), ".")
	switch {
	case a == IssueCertificate, a == RenewCertificate, noun == "attestation":
		return "device"
	case a == ExplainPolicy:
		return "decision"
	case noun == "audit":
		return "record"
	}
	return noun
}

type object = map[string]any

func one(value string) object { return object{"const": value} }

// closed is an object that has all of these members and no others.
func closed(properties object) object {
	return object{"type": "object", "properties": properties, "additionalProperties": false,
		"required": slices.Sorted(maps.Keys(properties))}
}

func union(all ...members) members {
	whole := members{}
	for _, m := range all {
		maps.Copy(whole, m)
	}
	return whole
}

// schema is that of an object that may have these members, and no others.
func (s *shapes) schema(m members) object {
	properties, others := object{}, any(false)
	for name, what := range m {
		if name == "*" {
			others = s.member(what)
			continue
		}
		properties[name] = s.member(what)
	}
	return object{"type": "object", "properties": properties, "additionalProperties": others}
}

// member is the schema of one member.
func (s *shapes) member(what json.RawMessage) any {
	var inner members
	if json.Unmarshal(what, &inner) == nil {
		return s.schema(inner)
	}
	var word string
	if err := json.Unmarshal(what, &word); err != nil {
		panic("policy: schemas.json has a member that is neither a word nor an object") // cannot happen: a test goes through all
	}
	switch word {
	case "text":
		return object{"type": "string"}
	case "number":
		return object{"type": "integer"}
	case "flag":
		return object{"type": "boolean"}
	case "words":
		return object{"type": "array", "items": object{"type": "string"}}
	case "list":
		return object{"type": "array"}
	case "object":
		return object{"type": "object"}
	case "any":
		return true
	}
	return object{"enum": strings.Split(word, "|")}
}
