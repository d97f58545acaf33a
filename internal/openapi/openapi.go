// Package openapi describes Go types as JSON Schema (draft 2020-12), as an
// OpenAPI 3.1 document wants them.
//
// A schema says what encoding/json makes of a type, and the words in it are the
// doc comments of the source, so that the description of a field stands in one
// place. It reads that source and is therefore for the time of building: no
// server imports it.
package openapi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Schema is one JSON Schema.
type Schema map[string]any

// Schemas describes types, each named one once, under the name that references to it use.
type Schemas struct {
	Source *Source           // where the words and the constants stand
	Named  map[string]Schema // by name: components/schemas of the document
	types  map[string]reflect.Type
}

// NewSchemas returns one that has described nothing yet.
func NewSchemas(source *Source) *Schemas {
	return &Schemas{Source: source, Named: map[string]Schema{}, types: map[string]reflect.Type{}}
}

var (
	moment   = reflect.TypeFor[time.Time]()
	raw      = reflect.TypeFor[json.RawMessage]()
	textual  = reflect.TypeFor[encoding.TextMarshaler]()
	marshals = reflect.TypeFor[json.Marshaler]()
)

// Of returns the schema of values of type t: a reference for a struct that has
// a name and for a string that is one of a list of constants, and the schema itself for all others.
func (s *Schemas) Of(t reflect.Type) Schema {
	switch {
	case t == moment:
		return Schema{"type": "string", "format": "date-time"}
	case t == raw, t.Kind() == reflect.Interface:
		return Schema{"type": []string{"object", "array", "string", "number", "boolean", "null"}} // anything
	case t.Kind() == reflect.Pointer:
		return nullable(s.Of(t.Elem()))
	case t.Implements(textual), t.Implements(marshals) && marshalsToText(t):
		return Schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.named(t, s.object)
	case reflect.String:
		if values := s.Source.Constants(t); len(values) > 0 {
			return s.named(t, func(reflect.Type) Schema { return Schema{"type": "string", "enum": values} })
		}
		return Schema{"type": "string"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 && t.Kind() == reflect.Slice {
			return Schema{"type": "string", "contentEncoding": "base64"}
		}
		return Schema{"type": "array", "items": s.Of(t.Elem())}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": s.Of(t.Elem())}
	}
	return scalar(t)
}

// marshalsToText reports whether a type that marshals itself becomes a string;
// of what becomes anything else nothing can be said.
func marshalsToText(t reflect.Type) bool {
	text, err := json.Marshal(reflect.Zero(t).Interface())
	if err != nil || text[0] != '"' {
		panic(fmt.Sprintf("openapi: %s marshals itself into %s, %v", t, text, err))
	}
	return true
}

// scalar describes numbers and booleans.
func scalar(t reflect.Type) Schema {
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return Schema{"type": "boolean"}
	case k >= reflect.Int && k <= reflect.Int64:
		return Schema{"type": "integer"}
	case k >= reflect.Uint && k <= reflect.Uint64:
		return Schema{"type": "integer", "minimum": 0}
	case k == reflect.Float32 || k == reflect.Float64:
		return Schema{"type": "number"}
	}
	panic(fmt.Sprintf("openapi: %s has no JSON", t))
}

// nullable is the schema of what may be null as well.
func nullable(s Schema) Schema {
	if kind, ok := s["type"].(string); ok && s["enum"] == nil {
		s["type"] = []string{kind, "null"}
		return s
	}
	return Schema{"anyOf": []Schema{s, {"type": "null"}}}
}

// named describes a type once and returns a reference to it. A type without a name of its own is described in place.
func (s *Schemas) named(t reflect.Type, describe func(reflect.Type) Schema) Schema {
	if t.Name() == "" {
		return describe(t)
	}
	name := s.name(t)
	if _, described := s.Named[name]; !described {
		s.Named[name] = nil // for a type that holds itself
		schema := describe(t)
		if says := s.Source.Doc(t); says != "" {
			schema["description"] = says
		}
		s.Named[name] = schema
	}
	return Schema{"$ref": "#/components/schemas/" + name}
}

// name is the type's, and with its package's before it where two types share one.
func (s *Schemas) name(t reflect.Type) string {
	base, argument, generic := strings.Cut(t.Name(), "[")
	name := plain(base)
	if generic { // list[…/fleet.Device] is ListOfDevice
		argument = strings.TrimSuffix(argument, "]")
		name += "Of" + plain(argument[strings.LastIndexAny(argument, "./")+1:])
	}
	for ; s.types[name] != nil && s.types[name] != t; name = upper(t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]) + name {
	}
	s.types[name] = t
	return name
}

// plain is a type's name as others may read it: shownToken is Token.
func plain(name string) string { return upper(strings.TrimPrefix(name, "shown")) }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// object describes a struct as encoding/json writes it. What may be left out is
// what has omitempty or omitzero.
func (s *Schemas) object(t reflect.Type) Schema {
	properties, required := map[string]Schema{}, []string{}
	s.fields(t, properties, &required)
	slices.Sort(required)
	schema := Schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

func (s *Schemas) fields(t reflect.Type, properties map[string]Schema, required *[]string) {
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || !field.IsExported() && !field.Anonymous {
			continue
		}
		if field.Anonymous && name == "" {
			s.fields(field.Type, properties, required)
			continue
		}
		if name == "" {
			panic(fmt.Sprintf("openapi: %s.%s has no name in JSON", t, field.Name))
		}
		omitted := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		kind := field.Type
		if omitted && kind.Kind() == reflect.Pointer {
			kind = kind.Elem() // never null: it is left out
		}
		properties[name] = documented(s.Of(kind), s.Source.Field(t, field.Name))
		if !omitted && !slices.Contains(*required, name) {
			*required = append(*required, name)
		}
	}
}

// documented adds a description, beside a reference as well as in a schema.
func documented(s Schema, says string) Schema {
	if says != "" {
		s["description"] = says
	}
	return s
}
