package audit

import (
	"errors"
	"fmt"
	"time"
)

// leafFields are those members of a leaf that Verify looks at. The slices
// point into the leaf.
type leafFields struct {
	id              ID
	at              time.Time
	action, outcome []byte // as between the quotes
}

// read checks that leaf is one that Event.Leaf could have written, and fills in the fields.
func (f *leafFields) read(leaf []byte) error {
	*f = leafFields{}
	var id, at, version []byte
	parties := 0
	err := scanObject(leaf, func(key, value []byte) {
		switch string(key) {
		case "action":
			f.action = unquoted(value)
		case "outcome":
			f.outcome = unquoted(value)
		case "id":
			id = unquoted(value)
		case "at":
			at = unquoted(value)
		case "v":
			version = value
		case "actor", "object":
			parties++
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("the leaf is not canonical JSON: %w", err)
	case len(version) == 0:
		return errors.New(`not a leaf: "v" is missing`)
	case string(version) != "1":
		return fmt.Errorf("a leaf of version %.20s; this program knows version 1", printable(string(version)))
	case len(f.action) == 0 || len(f.outcome) == 0 || parties != 2:
		return errors.New("incomplete leaf: action, actor, object and outcome are required")
	}
	if f.id, err = ParseID(string(id)); err != nil {
		return err
	}
	if f.at, err = time.Parse(TimeFormat, string(at)); err != nil {
		return errors.New("the leaf's time is not in UTC with milliseconds")
	}
	return nil
}

// unquoted returns the inside of a JSON string, nil for any other value.
func unquoted(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}
