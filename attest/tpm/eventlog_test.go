package tpm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	goattest "github.com/google/go-attestation/attest"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

func wantReason(t *testing.T, err error, want attest.Reason) {
	t.Helper()
	if err == nil || fault.Of(err).Code != string(want) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// booted is a machine that has booted, its log and all its quoted registers.
func booted(t testing.TB, secureBoot bool) (*forge.TPM, *forge.EventLog) {
	t.Helper()
	machine, err := forge.New("p256", "p256", "p256")
	if err != nil {
		t.Fatal(err)
	}
	log := &forge.EventLog{}
	log.Boot(machine, "Firmware 1.0", secureBoot, "shim 15.8", "linux 6.12")
	return machine, log
}

func quote(machine *forge.TPM, bank string, pcrs ...int) attest.PCRs {
	quoted := attest.PCRs{Bank: bank, Values: map[int][]byte{}}
	for _, pcr := range pcrs {
		quoted.Values[pcr] = machine.PCR(bank, pcr)
	}
	return quoted
}

var usual = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14}

func TestReplay(t *testing.T) {
	for _, bank := range []string{"sha256", "sha384"} {
		for _, secure := range []bool{true, false} {
			machine, log := booted(t, secure)
			boot, err := ReplayLog(log.Bytes(), quote(machine, bank, usual...))
			if err != nil {
				t.Fatal(err)
			}
			if !boot.LogReplayed || boot.SecureBoot == nil || *boot.SecureBoot != secure || len(boot.BootLoader) != 1 || len(boot.Kernel) != 2 {
				t.Fatalf("%s: %+v", bank, boot)
			}
			first, command := boot.Events[0][0], boot.Events[8][0]
			if first.Index != 1 || first.Type != "EV_S_CRTM_VERSION" || first.Says != "Firmware 1.0" {
				t.Errorf("first event: %+v", first)
			}
			if command.Says != "linux /boot/vmlinuz root=/dev/sda1" {
				t.Errorf("the boot loader's command: %+v", command)
			}
			if e := boot.Events[4][1]; e.Says != "" {
				t.Errorf("described by what no digest covers: %+v", e)
			}
		}
	}
}

// TestReplayLooksAtQuotedRegistersOnly: nothing vouches for the others.
func TestReplayLooksAtQuotedRegistersOnly(t *testing.T) {
	machine, log := booted(t, true)
	log.Entries[len(log.Entries)-1].Digests = nil // of PCR 5
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", 0, 4))
	if err != nil {
		t.Fatal(err)
	}
	if boot.SecureBoot != nil || boot.Kernel != nil || len(boot.Events) != 2 {
		t.Errorf("claims of registers that were not quoted: %+v", boot)
	}
	if boot, err := ReplayLog(log.Bytes(), attest.PCRs{}); err != nil || boot.LogReplayed {
		t.Errorf("without a quote: %+v, %v", boot, err)
	}
}

func TestLogsThatDoNotReplay(t *testing.T) {
	machine, log := booted(t, true)
	quoted := quote(machine, "sha256", usual...)
	for name, c := range map[string]struct {
		spoil func(l *forge.EventLog)
		want  attest.Reason
		says  string
	}{
		"an event left out":        {func(l *forge.EventLog) { l.Entries = append(l.Entries[:3:3], l.Entries[4:]...) }, attest.LogMismatch, "PCR 7 "},
		"an event added":           {func(l *forge.EventLog) { l.Entries = append(l.Entries, l.Entries[0]) }, attest.LogMismatch, "PCR 0 "},
		"two events swapped":       {func(l *forge.EventLog) { l.Entries[2], l.Entries[3] = l.Entries[3], l.Entries[2] }, attest.LogMismatch, "PCR 7 "},
		"another boot loader":      {func(l *forge.EventLog) { l.Entries[12].Digests[0].Bytes[0] ^= 1 }, attest.LogMismatch, "PCR 4 "},
		"a register left out":      {func(l *forge.EventLog) { drop(l, 4) }, attest.LogMismatch, "no measurement of PCR 4"},
		"another register's event": {func(l *forge.EventLog) { l.Entries[12].PCR = 9 }, attest.LogMismatch, "PCR 4 "},
		"a digest left out":        {func(l *forge.EventLog) { l.Entries[0].Digests = l.Entries[0].Digests[1:] }, attest.LogMismatch, "event 1 "},
		"secure boot, as it was not": {func(l *forge.EventLog) { l.Entries[1].Data[len(l.Entries[1].Data)-1] = 0 }, attest.LogDigest,
			"event 2 of the event log (EV_EFI_VARIABLE_DRIVER_CONFIG, PCR 7)"},
		"another action":       {func(l *forge.EventLog) { l.Entries[len(l.Entries)-1].Data[0] = 'X' }, attest.LogDigest, "PCR 5"},
		"another separator":    {func(l *forge.EventLog) { l.Entries[4].Data[0] = 1 }, attest.LogDigest, "EV_SEPARATOR"},
		"a variable cut short": {func(l *forge.EventLog) { l.Entries[1].Data = l.Entries[1].Data[:20] }, attest.LogDigest, "event 2"},
	} {
		t.Run(name, func(t *testing.T) {
			spoilt := log.Clone()
			c.spoil(spoilt)
			boot, err := ReplayLog(spoilt.Bytes(), quoted)
			wantReason(t, err, c.want)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q is not in %q", c.says, err)
			}
			if boot.LogReplayed || boot.Events != nil {
				t.Errorf("claims of a log that was refused: %+v", boot)
			}
		})
	}
}

func drop(l *forge.EventLog, pcr uint32) {
	var kept []forge.Entry
	for _, e := range l.Entries {
		if e.PCR != pcr {
			kept = append(kept, e)
		}
	}
	l.Entries = kept
}

func TestLogsThatCannotBeRead(t *testing.T) {
	machine, log := booted(t, true)
	quoted, body := quote(machine, "sha256", usual...), log.Body()
	header := func(specID []byte) []byte { return append(forge.LegacyEntry(0, forge.NoAction, specID), body...) }
	sha256s, good := [2]uint16{forge.SHA256, 32}, forge.SpecID([2]uint16{forge.SHA256, 32}, [2]uint16{forge.SHA384, 48})
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return header(b)
	}
	manyDigests := (&forge.EventLog{Entries: []forge.Entry{{Digests: []forge.Digest{
		{Algorithm: forge.SHA256, Bytes: make([]byte, 32)}, {Algorithm: forge.SHA256, Bytes: make([]byte, 32)}}}}}).Body()
	for name, b := range map[string][]byte{
		"nothing":                      nil,
		"too large":                    make([]byte, MaxEventLog+1),
		"too many entries":             append(header(good), bytes.Repeat((&forge.EventLog{Entries: make([]forge.Entry, 1)}).Body(), MaxEvents)...),
		"text":                         []byte(strings.Repeat("this is no event log ", 20)),
		"another version":              changed(21, 1),
		"a newer version":              changed(20, 1),
		"no algorithms":                changed(24, 0),
		"more algorithms than listed":  changed(24, 3),
		"a billion algorithms":         changed(27, 0x40),
		"vendor data that is not":      changed(len(good)-1, 5),
		"an algorithm twice":           header(forge.SpecID(sha256s, sha256s)),
		"an algorithm of another size": header(forge.SpecID([2]uint16{forge.SHA256, 20})),
		"an algorithm of no size":      header(forge.SpecID([2]uint16{forge.SHA256, 0})),
		"an algorithm that is none":    header(forge.SpecID(sha256s, [2]uint16{0x4444, 4})),
		"a digest that is not listed":  header(forge.SpecID(sha256s)),
		"a digest twice":               append(header(good), manyDigests...),
		"zeros behind it":              append(header(good), 0, 0, 0),
	} {
		_, err := ReplayLog(b, quoted)
		t.Run(name, func(t *testing.T) { wantReason(t, err, attest.LogMalformed) })
	}
	// The length of the last event's data, of the most there can be.
	whole := header(good)
	size := len(whole) - len(log.Entries[len(log.Entries)-1].Data) - 4
	binary.LittleEndian.PutUint32(whole[size:], 0xffffffff)
	_, err := ReplayLog(whole, quoted)
	wantReason(t, err, attest.LogMalformed)
}

// TestTruncatedLogs cuts a log at every byte: it is refused everywhere.
func TestTruncatedLogs(t *testing.T) {
	machine, log := booted(t, true)
	whole, quoted := log.Bytes(), quote(machine, "sha256", usual...)
	exits := len(whole) - 2*len(log.Body())/len(log.Entries) - 400 // the last two may be missing: see completeExit
	for n := range exits {
		if _, err := ReplayLog(whole[:n], quoted); err == nil {
			t.Fatalf("cut at byte %d of %d, and accepted", n, len(whole))
		}
	}
}

// TestTamperedLogs changes every byte: the log is refused, or says the same as before.
func TestTamperedLogs(t *testing.T) {
	machine, log := booted(t, true)
	whole, quoted := log.Bytes(), quote(machine, "sha256", usual...)
	honest, err := ReplayLog(whole, quoted)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(whole)
			b[i] ^= mask
			boot, err := ReplayLog(b, quoted)
			if err != nil {
				continue
			}
			if boot.SecureBoot != nil && !*boot.SecureBoot || boot.BootLoader[len(boot.BootLoader)-1] != honest.BootLoader[0] {
				t.Fatalf("byte %d changed by %#02x, and the log tells something else: %+v", i, mask, boot)
			}
		}
	}
}

// TestHiddenSecureBoot relabels the variable and measures another one later: no
// digest covers an event's type, so such a log replays.
func TestHiddenSecureBoot(t *testing.T) {
	machine, log := booted(t, false)
	log.Entries[1].Type = forge.EventTag
	log.Log(machine, 7, forge.VariableConfig, forge.Variable("SecureBoot", []byte{1}))
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	if err != nil {
		t.Fatal(err)
	}
	if boot.SecureBoot != nil && *boot.SecureBoot {
		t.Fatal("secure boot is claimed by a variable measured after the separator")
	}
	for i := range log.Entries { // and the separator hidden, too
		if log.Entries[i].PCR == 7 && log.Entries[i].Type == forge.Separator {
			log.Entries[i].Type = forge.EventTag
		}
	}
	if boot, err = ReplayLog(log.Bytes(), quote(machine, "sha256", usual...)); err != nil || boot.SecureBoot != nil && *boot.SecureBoot {
		t.Fatalf("secure boot is claimed behind a hidden separator: %v, %v", boot.SecureBoot, err)
	}
	log.Entries[1].Data = []byte("nothing to see here")
	if boot, err = ReplayLog(log.Bytes(), quote(machine, "sha256", usual...)); err != nil || boot.SecureBoot != nil {
		t.Fatalf("secure boot is told of a register with something hidden in it: %v, %v", boot.SecureBoot, err)
	}
}

// TestHiddenBootLoader relabels a boot loader: it is still listed.
func TestHiddenBootLoader(t *testing.T) {
	machine, log := booted(t, true)
	log.Measure(machine, 4, forge.EventTag, []byte("evil"), []byte("Calling EFI Application from Boot Option"))
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	if err != nil || len(boot.BootLoader) != 2 {
		t.Fatalf("%+v, %v", boot.BootLoader, err)
	}
}

func TestStartupLocality(t *testing.T) {
	machine, log := booted(t, true)
	for bank := range machine.PCRs {
		machine.PCRs[bank][0] = machine.PCR(bank, 23) // zeros
		machine.PCRs[bank][0][len(machine.PCRs[bank][0])-1] = 3
	}
	for _, e := range log.Entries {
		if e.PCR == 0 {
			machine.Extend(0, e.Data)
		}
	}
	start := func(locality byte) []byte {
		with := log.Clone()
		with.Entries = append([]forge.Entry{{Type: forge.NoAction, Data: append([]byte("StartupLocality\x00"), locality)}}, with.Entries...)
		return with.Bytes()
	}
	quoted := quote(machine, "sha256", usual...)
	if _, err := ReplayLog(start(3), quoted); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"another locality": start(4), "none": log.Bytes()} {
		_, err := ReplayLog(b, quoted)
		t.Run(name, func(t *testing.T) { wantReason(t, err, attest.LogMismatch) })
	}
}

// TestExitBootServices leaves out what firmware measures after a loader has
// read the log.
func TestExitBootServices(t *testing.T) {
	machine, log := booted(t, true)
	log.Entries = log.Entries[:len(log.Entries)-2]
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	if err != nil {
		t.Fatal(err)
	}
	if events := boot.Events[5]; len(events) != 3 || events[2].Says != "Exit Boot Services Returned with Success" {
		t.Errorf("%+v", events)
	}
	machine.Extend(5, []byte("something else"))
	_, err = ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	wantReason(t, err, attest.LogMismatch)
}

func TestBanksOfALog(t *testing.T) {
	machine, log := booted(t, true)
	for i := range log.Entries {
		log.Entries[i].Digests = log.Entries[i].Digests[:1]
	}
	only := append(forge.LegacyEntry(0, forge.NoAction, forge.SpecID([2]uint16{forge.SHA256, 32})), log.Body()...)
	if _, err := ReplayLog(only, quote(machine, "sha256", usual...)); err != nil {
		t.Fatal(err)
	}
	_, err := ReplayLog(only, quote(machine, "sha384", usual...))
	wantReason(t, err, attest.LogMismatch)
	if !strings.Contains(err.Error(), "has digests of sha256 only, and the quote is of sha384") {
		t.Error(err)
	}
	// A Chinese machine has SM3 digests beside the others.
	for i := range log.Entries {
		log.Entries[i].Digests = append(log.Entries[i].Digests, forge.Digest{Algorithm: 0x12, Bytes: make([]byte, 32)})
	}
	with := append(forge.LegacyEntry(0, forge.NoAction, forge.SpecID([2]uint16{forge.SHA256, 32}, [2]uint16{0x12, 32})), log.Body()...)
	if _, err := ReplayLog(with, quote(machine, "sha256", usual...)); err != nil {
		t.Fatal(err)
	}
	_, err = ReplayLog(with, attest.PCRs{Bank: "sha1", Values: map[int][]byte{0: make([]byte, 20)}})
	wantReason(t, err, attest.AlgorithmNotAllowed)
}

// TestOddEvents are entries that real logs have.
func TestOddEvents(t *testing.T) {
	machine, log := booted(t, true)
	older := forge.Variable("Boot0001", []byte("a disk"))
	log.Measure(machine, 1, forge.VariableBoot, []byte("a disk"), older)
	authority := forge.Variable("MokList", []byte("a certificate"))
	log.Measure(machine, 7, forge.VariableAuthority, authority, append(bytes.Clone(authority), 0))
	log.Log(machine, 5, forge.EFIAction, []byte("\x1b[31mred\x1b[0m and a bell \x07"+strings.Repeat(" and on", 40)))
	log.Entries = append(log.Entries, forge.Entry{PCR: 0xffffffff, Type: forge.NoAction, Data: []byte("Windows")},
		forge.Entry{PCR: 200, Type: forge.IPL})
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	if err != nil {
		t.Fatal(err)
	}
	if e := boot.Events[1][1]; e.Says != "Boot0001, 6 bytes" {
		t.Errorf("%+v", e)
	}
	for _, events := range boot.Events {
		for _, e := range events {
			if len(e.Says) > maxSays || strings.ContainsAny(e.Says, "\x1b\x07\x00") {
				t.Errorf("a description that no terminal should see: %q", e.Says)
			}
		}
	}
}

func TestClaimsAreBounded(t *testing.T) {
	machine, log := booted(t, true)
	for i := range 300 {
		log.Measure(machine, 9, forge.IPL, []byte{byte(i), byte(i >> 8)}, nil)
		log.Measure(machine, 9, forge.IPL, []byte{byte(i), byte(i >> 8)}, nil) // again
	}
	boot, err := ReplayLog(log.Bytes(), quote(machine, "sha256", usual...))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(boot.Kernel); n != maxDigests || boot.Kernel[n-1] != "and 239 more" {
		t.Errorf("%d elements, the last %q", n, boot.Kernel[n-1])
	}
}

// FuzzReplayLog reads any bytes. What it takes for a log, another parser takes
// for the same one, and it replays to what that one says or is refused for its digests.
func FuzzReplayLog(f *testing.F) {
	machine, log := booted(f, true)
	f.Add(log.Bytes())
	f.Add(forge.LegacyEntry(0, forge.Separator, []byte{0, 0, 0, 0}))
	for _, real := range realLogs(f) {
		f.Add(real)
	}
	quoted := quote(machine, "sha256", usual...)
	f.Fuzz(func(t *testing.T, b []byte) {
		if boot, err := ReplayLog(b, quoted); err != nil && boot.LogReplayed {
			t.Fatal("refused, and replayed")
		}
		ours, err := parseEventLog(b, logBanks[1])
		if err != nil {
			if fault.Of(err).Code != string(attest.LogMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(ours.banks) > 0 && ours.banks[0] != "sha256" || len(ours.banks) > 1 {
			return // the other parser does not know all of the banks
		}
		other, err := goattest.ParseEventLog(b)
		if err != nil {
			t.Fatalf("the other parser refuses it: %v", err)
		}
		sameEvents(t, "fuzz", ours, other)
	})
}
