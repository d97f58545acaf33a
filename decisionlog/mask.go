package decisionlog

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Mask takes a part of an event out, or puts something else for it. It is what
// OPA's masks are: a JSON pointer below /input or /result, whose segments are escaped as
// in URLs.
type Mask struct {
	path   []string // input or result, and the members below
	upsert bool
	value  any
	any    bool // a segment * stands for all members
}

// maxMasks bounds what rules may name for one event.
const maxMasks = 1024

// any segment of a configured mask that is this stands for all members or elements.
const anyMember = "*"

// ParseMask reads a mask of the configuration: a JSON pointer to what is taken out, or an
// object {op, path, value} with op remove or upsert. In its pointer, unlike in those of
// rules, a segment * stands for every member or element.
func ParseMask(v any) (Mask, error) {
	m, err := parseMask(v)
	m.any = true
	return m, err
}

// parseMask reads a mask as rules give it.
func parseMask(v any) (Mask, error) {
	switch v := v.(type) {
	case string:
		return newMask(v)
	case map[string]any:
		path, _ := v["path"].(string)
		m, err := newMask(path)
		if err != nil {
			return Mask{}, err
		}
		switch v["op"] {
		case "remove":
		case "upsert":
			m.upsert, m.value = true, v["value"]
		default:
			return Mask{}, fmt.Errorf("mask %s: op must be remove or upsert", path)
		}
		return m, nil
	}
	return Mask{}, fmt.Errorf("a mask is a JSON pointer or an object {op, path, value}, and not a %T", v)
}

func newMask(pointer string) (Mask, error) {
	rest, rooted := strings.CutPrefix(pointer, "/")
	if !rooted {
		return Mask{}, fmt.Errorf("mask %q: a path begins with /input or /result", pointer)
	}
	segments := strings.Split(rest, "/")
	switch segments[0] {
	case "input", "result", "nd_builtin_cache": // OPA has the last, we have no use for it
	default:
		return Mask{}, fmt.Errorf("mask %q: a path begins with /input or /result", pointer)
	}
	for i, s := range segments {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil {
			return Mask{}, fmt.Errorf("mask %q: %w", pointer, err)
		}
	}
	return Mask{path: segments}, nil
}

func parseMasks(list []any) ([]Mask, error) {
	if len(list) > maxMasks {
		return nil, fmt.Errorf("rules name %d masks, at most %d are taken", len(list), maxMasks)
	}
	masks := make([]Mask, len(list))
	for i, v := range list {
		var err error
		if masks[i], err = parseMask(v); err != nil {
			return nil, err
		}
	}
	return masks, nil
}

// gone stands where an element was taken out of a list until all masks are
// applied: so each means the element that it named.
type gone struct{}

// apply applies masks in their order. A path that leads nowhere is no error, as in OPA.
func (e *Event) apply(masks []Mask) {
	for i := range masks {
		m := &masks[i]
		root := &e.Input
		switch m.path[0] {
		case "result":
			root = &e.Result
		case "nd_builtin_cache":
			continue
		}
		if *root == nil {
			continue
		}
		done := func(at []string) {
			list := &e.Erased
			if m.upsert {
				list = &e.Masked
			}
			if p := pointer(at); !slices.Contains(*list, p) {
				*list = append(*list, p)
			}
		}
		if len(m.path) == 1 {
			*root = nil
			if m.upsert {
				*root = clone(m.value)
			}
			done(m.path)
			continue
		}
		m.change(*root, m.path[:1:1], m.path[1:], done)
	}
	e.Input, e.Result = withoutGone(e.Input), withoutGone(e.Result)
}

// change applies the mask below node, which stands at that place.
func (m *Mask) change(node any, at, rest []string, done func(at []string)) {
	name, last := rest[0], len(rest) == 1
	below := func(name string) []string { return append(slices.Clip(at), name) }
	switch v := node.(type) {
	case map[string]any:
		if m.any && name == anyMember {
			for _, name := range slices.Sorted(maps.Keys(v)) {
				m.member(v, name, below(name), rest[1:], last, done)
			}
			return
		}
		if _, there := v[name]; !there && m.upsert && !last {
			v[name] = map[string]any{}
		}
		m.member(v, name, below(name), rest[1:], last, done)
	case []any:
		first, end := 0, len(v)
		if !m.any || name != anyMember {
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				return
			}
			first, end = i, i+1
		}
		for i := first; i < end; i++ {
			m.element(v, i, below(strconv.Itoa(i)), rest[1:], last, done)
		}
	}
}

func (m *Mask) member(of map[string]any, name string, at, rest []string, last bool, done func([]string)) {
	switch there, exists := of[name]; {
	case last && m.upsert:
		of[name] = clone(m.value)
		done(at)
	case last && exists:
		delete(of, name)
		done(at)
	case !last && exists:
		m.change(there, at, rest, done)
	}
}

func (m *Mask) element(of []any, i int, at, rest []string, last bool, done func([]string)) {
	switch {
	case of[i] == gone{}:
	case last && m.upsert:
		of[i] = clone(m.value)
		done(at)
	case last:
		of[i] = gone{}
		done(at)
	default:
		m.change(of[i], at, rest, done)
	}
}

// withoutGone returns v without the elements that were taken out.
func withoutGone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = withoutGone(member)
		}
	case []any:
		left := slices.DeleteFunc(v, func(element any) bool { return element == gone{} })
		for i := range left {
			left[i] = withoutGone(left[i])
		}
		return left
	}
	return v
}

// clone returns v with lists and objects of its own.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for name, member := range v {
			copied[name] = clone(member)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, element := range v {
			copied[i] = clone(element)
		}
		return copied
	}
	return v
}

// pointer is a path as events list it.
func pointer(path []string) string {
	var b strings.Builder
	for _, segment := range path {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(segment))
	}
	return b.String()
}

// blot takes everything out: nobody knows what was to be masked.
func (e *Event) blot() {
	e.Input, e.Result, e.Masked = nil, nil, nil
	e.Erased = []string{"/input", "/result"}
}

// errMask marks what the rules' masks made impossible.
var errMask = errors.New("the rules' masks give no clear answer")

func isMask(err error) bool { return errors.Is(err, errMask) }
