package fleet

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

func TestReadCSV(t *testing.T) {
	lines, bad, err := ReadCSV(strings.NewReader("\ufeffid, model,serial,batch,ek_sha256,label.site\r\n" +
		"gw-1,M1,S1,B1," + strings.Repeat("AB", 32) + ",Oslo\r\n" +
		"gw 2,M1,S2,B1,,\r\n" + // a space in the id
		"gw-3,M1\r\n" + // too few fields
		"gw-1,M1,S4,B1,,\r\n" + // the id again
		"gw-5,M1,S5,B1,abc,\r\n" + // no SHA-256
		"gw-6,\"M\"1,S6,B1,,\r\n" + // a stray quote
		"gw-7,M1,S7,B1,,\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || lines[0].Device.ID != "gw-1" || lines[1].Device.ID != "gw-7" {
		t.Fatalf("taken: %+v", lines)
	}
	first := lines[0].Device
	if first.EKSHA256 != strings.Repeat("ab", 32) || first.Labels["site"] != "Oslo" || first.Model != "M1" || lines[0].Number != 2 {
		t.Errorf("first line: %+v", lines[0])
	}
	want := map[int]string{3: "device id", 4: "2 fields", 5: "line 2 already", 6: "SHA-256", 7: "quote"}
	if len(bad) != len(want) {
		t.Errorf("refused: %+v", bad)
	}
	for _, b := range bad {
		if !strings.Contains(b.Says, want[b.Line]) {
			t.Errorf("line %d says %q, want something about %q", b.Line, b.Says, want[b.Line])
		}
	}
}

func TestReadCSVHeaderErrors(t *testing.T) {
	for header, says := range map[string]string{
		"":              "no header",
		"model,serial":  `no column "id"`,
		"id,modle":      `unknown column "modle"`,
		"id,id":         "twice",
		"id,label.":     "unknown column",
		"\"id":          "no header",
		"id,state\na,b": "unknown column",
	} {
		_, _, err := ReadCSV(strings.NewReader(header))
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Malformed || !strings.Contains(f.Says, says) {
			t.Errorf("header %q: %v, want %q", header, err, says)
		}
	}
}

func TestReadJSONL(t *testing.T) {
	lines, bad, err := ReadJSONL(strings.NewReader(`{"id":"a","labels":{"x":"y"}}

{"id":"b","modle":"typo"}
{"id":"c"} {"id":"d"}
not json
{"id":"e","serial":"S\u0000"}
{"id":"f","ak_sha256":"` + strings.Repeat("0F", 32) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || lines[0].Device.Labels["x"] != "y" || lines[1].Number != 7 || lines[1].Device.AKSHA256 != strings.Repeat("0f", 32) {
		t.Fatalf("taken: %+v", lines)
	}
	want := map[int]string{3: "modle", 4: "more than one", 5: "invalid character", 6: "printable"}
	for _, b := range bad {
		if !strings.Contains(b.Says, want[b.Line]) {
			t.Errorf("line %d says %q, want something about %q", b.Line, b.Says, want[b.Line])
		}
	}
	if len(bad) != len(want) {
		t.Errorf("refused: %+v", bad)
	}
	if _, _, err := ReadJSONL(strings.NewReader(`{"id":"` + strings.Repeat("x", 70_000))); !fault.Is(err, fault.Malformed) {
		t.Errorf("an endless line: %v", err)
	}
}

func TestImportIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("id\n")
	for i := range MaxImportLines + 1 {
		fmt.Fprintf(&b, "d%d\n", i)
	}
	if _, _, err := ReadCSV(strings.NewReader(b.String())); !fault.Is(err, fault.Malformed) {
		t.Errorf("a file of %d lines: %v", MaxImportLines+1, err)
	}
}

func TestCheckID(t *testing.T) {
	for _, good := range []string{"a", "GW-0001", "aa:bb:cc:dd:ee:ff", "x.y_z", strings.Repeat("a", 64)} {
		if err := CheckID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-a", ".", "..", "../x", "a/b", "a b", "ä", "a\x00", "a\n", strings.Repeat("a", 65), "*", "a%2fb"} {
		if CheckID(bad) == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add("id,model\na,b\n")
	f.Add("id,label.x\n\"a\",\"b\nc\"\n")
	f.Add("id\n\"") // a line that is wrong before it has a field
	f.Fuzz(func(t *testing.T, text string) { checkRead(t, text, ReadCSV) })
}

func FuzzReadJSONL(f *testing.F) {
	f.Add(`{"id":"a","labels":{"x":"y"}}`)
	f.Add("{}\n\n{\"id\":1}")
	f.Fuzz(func(t *testing.T, text string) { checkRead(t, text, ReadJSONL) })
}

// checkRead holds a reader to its promise: whatever it takes is well formed.
func checkRead(t *testing.T, text string, read func(io.Reader) ([]Line, []LineError, error)) {
	lines, _, err := read(strings.NewReader(text))
	if err != nil && lines != nil {
		t.Error("lines along with an error")
	}
	seen := map[string]bool{}
	for _, l := range lines {
		if err := l.Device.check(); err != nil || seen[l.Device.ID] || l.Device.State != "" {
			t.Errorf("took %+v: %v", l, err)
		}
		seen[l.Device.ID] = true
	}
}
