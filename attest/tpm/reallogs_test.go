package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	goattest "github.com/google/go-attestation/attest"

	"github.com/hallmark-pki/hallmark/attest"
)

// moduleDir is where a module of the build list lies; its test data is read from there.
func moduleDir(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", path).Output()
	var module struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil || module.Dir == "" {
		t.Fatalf("module %s is not to be had: %v", path, err)
	}
	return module.Dir
}

// realLogs are event logs of real machines, by file name.
func realLogs(t testing.TB) map[string][]byte {
	t.Helper()
	logs := map[string][]byte{}
	for _, glob := range []string{
		moduleDir(t, "github.com/google/go-attestation") + "/attest/testdata/*eventlog",
		moduleDir(t, "github.com/google/go-tpm-tools") + "/internal/test/eventlogs/*.bin",
	} {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			t.Fatalf("no logs at %s: %v", glob, err)
		}
		for _, file := range files {
			log, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			logs[filepath.Base(file)] = log
		}
	}
	return logs
}

// implied are the registers that a log comes to, worked out from the events as
// another parser reads them.
func implied(events []goattest.Event) attest.PCRs {
	values := map[int][]byte{}
	var locality byte
	for _, e := range events {
		if e.Type == 3 { // EV_NO_ACTION
			if bytes.HasPrefix(e.Data, []byte("StartupLocality\x00")) {
				locality = e.Data[16]
			}
			continue
		}
		value, ok := values[e.Index]
		if !ok {
			value = make([]byte, 32)
			if e.Index == 0 {
				value[31] = locality
			}
		}
		next := sha256.Sum256(append(bytes.Clone(value), e.Digest...))
		values[e.Index] = next[:]
	}
	return attest.PCRs{Bank: "sha256", Values: values}
}

// TestRealLogsReplay reads every log as another parser does, and replays it to what it implies.
func TestRealLogsReplay(t *testing.T) {
	agile := 0
	for name, log := range realLogs(t) {
		other, err := goattest.ParseEventLog(log)
		if err != nil {
			t.Fatalf("%s: the other parser: %v", name, err)
		}
		ours, err := parseEventLog(log, logBanks[1])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sameEvents(t, name, ours, other)
		if !slices.Contains(other.Algs, goattest.HashSHA256) {
			_, err := ReplayLog(log, attest.PCRs{Bank: "sha256", Values: map[int][]byte{0: make([]byte, 32)}})
			wantReason(t, err, attest.LogMismatch)
			if !strings.Contains(err.Error(), "has digests of sha1 only") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		agile++
		boot, err := ReplayLog(log, implied(other.Events(goattest.HashSHA256)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !boot.LogReplayed || len(boot.BootLoader) == 0 {
			t.Errorf("%s: the log replayed and tells nothing: %+v", name, boot)
		}
	}
	if agile < 15 {
		t.Errorf("only %d logs with SHA-256 were found", agile)
	}
}

// sameEvents compares what two parsers read.
func sameEvents(t *testing.T, name string, ours *eventLog, other *goattest.EventLog) {
	t.Helper()
	records, events := ours.records, other.Events(goattest.HashSHA256)
	if len(records) == len(events)+1 {
		records = records[1:] // the header
	}
	if len(records) != len(events) {
		t.Fatalf("%s: %d events, the other parser has %d", name, len(records), len(events))
	}
	for i, e := range events {
		r := records[i]
		if int(r.pcr) != e.Index || uint32(r.kind) != uint32(e.Type) || !bytes.Equal(r.data, e.Data) || !bytes.Equal(r.digest, e.Digest) {
			t.Fatalf("%s: event %d is read differently", name, i)
		}
	}
}

// TestLogsReplayToTheirMachines replays logs to the registers that were read on
// the same machines. Another project's tests keep both.
func TestLogsReplayToTheirMachines(t *testing.T) {
	dir := moduleDir(t, "github.com/google/go-tpm-tools")
	logs, replayed := realLogs(t), 0
	for file, pcrs := range knownMachines(t, dir) {
		boot, err := ReplayLog(logs[file], pcrs)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		replayed++
		if len(boot.Events[4]) == 0 {
			t.Errorf("%s: nothing in PCR 4", file)
		}
		for pcr := range pcrs.Values { // any register that is another is found out, and named
			wrong := attest.PCRs{Bank: pcrs.Bank, Values: map[int][]byte{}}
			for n, value := range pcrs.Values {
				wrong.Values[n] = bytes.Clone(value)
			}
			wrong.Values[pcr][0] ^= 1
			_, err := ReplayLog(logs[file], wrong)
			if pcr > 7 && boot.Events[pcr] == nil {
				continue // of the operating system
			}
			wantReason(t, err, attest.LogMismatch)
			if !strings.Contains(err.Error(), "PCR "+strconv.Itoa(pcr)+" ") {
				t.Errorf("%s: PCR %d is wrong, and the refusal says: %v", file, pcr, err)
			}
		}
	}
	if replayed < 10 {
		t.Errorf("only %d machines were found", replayed)
	}
}

// knownMachines reads the SHA-256 registers of machines out of another project's
// Go source, by the file name of the machine's log.
func knownMachines(t *testing.T, dir string) map[string]attest.PCRs {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(dir, "internal/test/test_data.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{} // by variable
	for _, m := range regexp.MustCompile(`//go:embed eventlogs/(\S+)\s+(\w+) \[\]byte`).FindAllStringSubmatch(string(source), -1) {
		files[m[2]] = m[1]
	}
	tests, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "server/eventlog_test.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]attest.PCRs{}
	for _, decl := range tests.Decls {
		var file string
		var bank string
		values := map[int][]byte{}
		ast.Inspect(decl, func(n ast.Node) bool {
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			if key, ok := pair.Key.(*ast.Ident); ok {
				if sel, ok := pair.Value.(*ast.SelectorExpr); ok && key.Name == "RawLog" {
					file = files[sel.Sel.Name]
				} else if ok && key.Name == "Hash" {
					bank = sel.Sel.Name
				}
			}
			if key, ok := pair.Key.(*ast.BasicLit); ok && bank == "HashAlgo_SHA256" {
				if call, ok := pair.Value.(*ast.CallExpr); ok && len(call.Args) == 1 {
					pcr, _ := strconv.Atoi(key.Value)
					text, _ := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
					values[pcr], _ = hex.DecodeString(text)
				}
			}
			return true
		})
		if file != "" && len(values) > 0 {
			machines[file] = attest.PCRs{Bank: "sha256", Values: values}
		}
	}
	return machines
}

// TestSecureBootOfRealMachines holds our reading of PCR 7 against another project's.
func TestSecureBootOfRealMachines(t *testing.T) {
	compared := 0
	for name, log := range realLogs(t) {
		other, err := goattest.ParseEventLog(log)
		if err != nil || !slices.Contains(other.Algs, goattest.HashSHA256) {
			continue
		}
		events := other.Events(goattest.HashSHA256)
		boot, err := ReplayLog(log, implied(events))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		state, err := goattest.ParseSecurebootState(events)
		switch {
		case err != nil && boot.SecureBoot != nil && *boot.SecureBoot:
			t.Errorf("%s: secure boot is claimed, and the other project says: %v", name, err)
		case err == nil && boot.SecureBoot != nil && *boot.SecureBoot != state.Enabled:
			t.Errorf("%s: secure boot %v, the other project says %v", name, *boot.SecureBoot, state.Enabled)
		case err == nil && boot.SecureBoot != nil:
			compared++
		}
	}
	if compared < 8 {
		t.Errorf("only %d machines could be compared", compared)
	}
}

// BenchmarkReplayLog replays the log of a real machine, 38 KB and 105 events, and
// has another project do the same.
func BenchmarkReplayLog(b *testing.B) {
	log := realLogs(b)["ubuntu_2104_shielded_vm_no_secure_boot_eventlog"]
	other, err := goattest.ParseEventLog(log)
	if err != nil {
		b.Fatal(err)
	}
	pcrs := implied(other.Events(goattest.HashSHA256))
	var theirs []goattest.PCR
	for n, value := range pcrs.Values {
		theirs = append(theirs, goattest.PCR{Index: n, Digest: value, DigestAlg: crypto.SHA256})
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ReplayLog(log, pcrs); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("theirs", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parsed, err := goattest.ParseEventLog(log)
			if err != nil {
				b.Fatal(err)
			}
			events, err := parsed.Verify(theirs)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := goattest.ParseSecurebootState(events); err != nil {
				b.Fatal(err)
			}
		}
	})
}
