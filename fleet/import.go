package fleet

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// MaxImportLines bounds one import file.
const MaxImportLines = 200_000

// maxField bounds one field of an import, in bytes.
const maxField = 200

// validID is what a device id may look like: it ends in certificates, SPIFFE
// IDs and paths, so it starts with a letter or digit and has no white space.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`)

// CheckID returns an error that says what is wrong with a device id, or nil.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return errors.New("a device id has 1 to 64 characters A-Z a-z 0-9 . _ : - and starts with a letter or digit")
	}
	return nil
}

// ReadCSV reads devices from CSV (RFC 4180) whose first line names the
// columns: id, and any of model, serial, batch, ek_sha256, ak_sha256 and
// label.NAME. Lines that are wrong are returned apart; the error tells of a file
// that cannot be read as devices at all.
func ReadCSV(r io.Reader) ([]Line, []LineError, error) {
	in := csv.NewReader(skipBOM(r))
	in.FieldsPerRecord = -1
	in.TrimLeadingSpace = true
	header, err := in.Read()
	if err != nil {
		return nil, nil, fault.Wrap(fault.Malformed, "import_unreadable", "the file has no header line that CSV can be read by", err)
	}
	if err := checkHeader(header); err != nil {
		return nil, nil, err
	}
	var c collector
	for {
		record, err := in.Read()
		var wrong *csv.ParseError
		switch {
		case err == io.EOF:
			return c.lines, c.bad, nil
		case errors.As(err, &wrong):
			c.refuse(wrong.StartLine, "", wrong.Err.Error())
			continue
		case err != nil:
			return nil, nil, fault.Wrap(fault.Malformed, "import_unreadable", "the file could not be read to its end", err)
		}
		number, _ := in.FieldPos(0) // there is none to ask for after an error
		if len(record) != len(header) {
			c.refuse(number, "", fmt.Sprintf("has %d fields, the header has %d", len(record), len(header)))
			continue
		}
		var d Device
		for i, value := range record {
			d.set(header[i], strings.TrimSpace(value))
		}
		if err := c.take(number, d); err != nil {
			return nil, nil, err
		}
	}
}

func checkHeader(header []string) error {
	seen := map[string]bool{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		header[i] = name
		if seen[name] {
			return fault.New(fault.Malformed, "import_header", fmt.Sprintf("the column %q stands twice in the header", name))
		}
		seen[name] = true
		if !(&Device{}).set(name, "") {
			return fault.New(fault.Malformed, "import_header",
				fmt.Sprintf("unknown column %q: there are id, model, serial, batch, ek_sha256, ak_sha256 and label.NAME", name))
		}
	}
	if !seen["id"] {
		return fault.New(fault.Malformed, "import_header", "the header has no column \"id\"")
	}
	return nil
}

// set puts one column's value in its place and reports whether there is such a column.
func (d *Device) set(column, value string) bool {
	switch column {
	case "id":
		d.ID = value
	case "model":
		d.Model = value
	case "serial":
		d.Serial = value
	case "batch":
		d.Batch = value
	case "ek_sha256":
		d.EKSHA256 = strings.ToLower(value)
	case "ak_sha256":
		d.AKSHA256 = strings.ToLower(value)
	default:
		name, ok := strings.CutPrefix(column, "label.")
		if !ok || name == "" {
			return false
		}
		if value != "" {
			if d.Labels == nil {
				d.Labels = map[string]string{}
			}
			d.Labels[name] = value
		}
	}
	return true
}

// jsonDevice is one line of a JSON Lines import.
type jsonDevice struct {
	ID       string            `json:"id"`
	Model    string            `json:"model"`
	Serial   string            `json:"serial"`
	Batch    string            `json:"batch"`
	EKSHA256 string            `json:"ek_sha256"`
	AKSHA256 string            `json:"ak_sha256"`
	Labels   map[string]string `json:"labels"`
}

// ReadJSONL reads devices from JSON Lines: one object a line with the members
// id, model, serial, batch, ek_sha256, ak_sha256 and labels. Empty lines are
// passed over; wrong ones are returned apart.
func ReadJSONL(r io.Reader) ([]Line, []LineError, error) {
	in := bufio.NewScanner(skipBOM(r))
	in.Buffer(make([]byte, 0, 4096), 64<<10)
	var c collector
	for number := 1; in.Scan(); number++ {
		text := bytes.TrimSpace(in.Bytes())
		if len(text) == 0 {
			continue
		}
		var j jsonDevice
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&j); err != nil {
			c.refuse(number, "", strings.TrimPrefix(err.Error(), "json: "))
			continue
		}
		if decoder.More() {
			c.refuse(number, j.ID, "more than one JSON value on the line")
			continue
		}
		d := Device{ID: j.ID, Model: j.Model, Serial: j.Serial, Batch: j.Batch, Labels: j.Labels,
			EKSHA256: strings.ToLower(j.EKSHA256), AKSHA256: strings.ToLower(j.AKSHA256)}
		if err := c.take(number, d); err != nil {
			return nil, nil, err
		}
	}
	if err := in.Err(); err != nil {
		return nil, nil, fault.Wrap(fault.Malformed, "import_unreadable", "the file could not be read to its end: a line is longer than 64 KiB, or the transfer broke", err)
	}
	return c.lines, c.bad, nil
}

// collector gathers the lines of one file.
type collector struct {
	lines []Line
	bad   []LineError
	seen  map[string]int // id → line
}

func (c *collector) refuse(number int, id, says string) {
	c.bad = append(c.bad, LineError{Line: number, ID: id, Says: says})
}

func (c *collector) take(number int, d Device) error {
	if len(c.lines)+len(c.bad) >= MaxImportLines {
		return fault.New(fault.Malformed, "import_too_long", fmt.Sprintf("the file has more than %d devices; split it", MaxImportLines))
	}
	if err := d.check(); err != nil {
		c.refuse(number, "", err.Error())
		return nil
	}
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	if first := c.seen[d.ID]; first > 0 {
		c.refuse(number, d.ID, fmt.Sprintf("the id stands on line %d already", first))
		return nil
	}
	c.seen[d.ID] = number
	c.lines = append(c.lines, Line{Number: number, Device: d})
	return nil
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check returns what is wrong with the device's fields, or nil.
func (d *Device) check() error {
	if err := CheckID(d.ID); err != nil {
		return err
	}
	fields := map[string]string{"model": d.Model, "serial": d.Serial, "batch": d.Batch}
	for name, value := range d.Labels {
		fields["label "+strings.ToValidUTF8(name, "?")] = value + name
	}
	for name, value := range fields {
		if len(value) > maxField {
			return fmt.Errorf("%s is longer than %d bytes", name, maxField)
		}
		if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return fmt.Errorf("%s has characters that are not printable text", name)
		}
	}
	for name, value := range map[string]string{"ek_sha256": d.EKSHA256, "ak_sha256": d.AKSHA256} {
		if value != "" && !sha256Hex.MatchString(value) {
			return fmt.Errorf("%s is not a SHA-256 in hex (64 digits)", name)
		}
	}
	return nil
}

// skipBOM drops the byte order mark that some spreadsheets put in front.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, err := b.Peek(3); err == nil && string(head) == "\ufeff" {
		b.Discard(3)
	}
	return b
}
