package housetest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// boot starts the machine with firmware that measures and logs what it starts.
func (a *agent) boot(loader, kernel string) {
	a.t.Helper()
	a.machine.Restart()
	log := &forge.EventLog{}
	log.Boot(&forge.TPM{PCRs: map[string]map[int][]byte{"sha256": {}, "sha384": {}}}, "firmware 7", true, loader, kernel)
	for _, e := range log.Entries {
		a.machine.ExtendDigests(int(e.PCR), e.Digests[0].Bytes, e.Digests[1].Bytes)
	}
	if a.log == "" {
		a.log = filepath.Join(a.t.TempDir(), "binary_bios_measurements")
	}
	if err := os.WriteFile(a.log, log.Bytes(), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// A machine that boots something else stops at its next renewal, and the
// operator reads which register and which event it was.
func TestAChangedBootIsQuarantined(t *testing.T) {
	f := newFactory(t)
	f.register("press-1", "")
	a := f.agent("press-1", f.maker.TPM(t, swtpm.Options{}))
	a.boot("loader 1", "kernel 1")
	a.mustEnrol()
	if boot, _ := f.appraised("press-1")["boot"].(map[string]any); boot["log_replayed"] != true || boot["secure_boot"] != true {
		t.Errorf("the record says %v of its boot", boot)
	}
	a.boot("loader 1", "kernel 1")
	a.mustRenew()
	a.boot("loader 2", "kernel 1")
	told(t, "another boot loader", a.renew(), "baseline_mismatch")
	if state := f.stateOf("press-1"); !strings.HasPrefix(state, "quarantined baseline_mismatch") {
		t.Errorf("it is %s", state)
	}
	told(t, "from then on", a.renew(), "device_quarantined")
	shown := f.Hallmark("attestation", "show", "press-1")
	for _, want := range []string{"quarantined", "PCR 4", "EV_EFI_BOOT_SERVICES_APPLICATION"} {
		if !strings.Contains(shown, want) {
			t.Errorf("attestation show does not say %q:\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "PCR 7") {
		t.Errorf("attestation show names a register that did not change:\n%s", shown)
	}
	a.boot("loader 1", "kernel 1")
	f.Hallmark("device", "release", "press-1", "--reason", "the old boot loader is back")
	a.mustRenew()

	a.machine.Extend(9, []byte("measured after the log was written"))
	told(t, "a register that the log does not explain", a.renew(), "log_mismatch")
	if state := f.stateOf("press-1"); !strings.HasPrefix(state, "quarantined log_mismatch") {
		t.Errorf("it is %s", state)
	}
	if shown := f.Hallmark("attestation", "show", "press-1"); !strings.Contains(shown, "PCR 9 differs") {
		t.Errorf("attestation show does not name the register:\n%s", shown)
	}
}

// A baseline that is active lets new firmware renew; one that is denied stops it.
func TestBaselinesLetFirmwareRenew(t *testing.T) {
	f := newFactory(t)
	a := map[string]*agent{}
	for id, release := range map[string]string{"press-1": "1", "press-2": "1", "lab": "2"} {
		f.register(id, "")
		a[id] = f.agent(id, f.maker.TPM(t, swtpm.Options{}))
		a[id].boot("loader "+release, "kernel "+release)
		a[id].mustEnrol()
	}
	learn := func(device, firmware string) string {
		t.Helper()
		var learned struct{ ID, State string }
		if err := json.Unmarshal([]byte(f.Hallmark("attestation", "baseline", "learn", "--device", device, "--firmware", firmware, "-o", "json")), &learned); err != nil || learned.State != "draft" {
			t.Fatalf("%+v, %v", learned, err)
		}
		return learned.ID
	}
	first, second := learn("press-1", "1"), learn("lab", "2")
	f.Hallmark("attestation", "baseline", "activate", first)
	a["press-2"].mustRenew()
	if document := f.appraised("press-2"); document["verdict"] != "affirming" {
		t.Errorf("the record says %v", document)
	}
	a["press-1"].boot("loader 2", "kernel 2")
	told(t, "firmware without a baseline", a["press-1"].renew(), "baseline_mismatch")
	if state := f.stateOf("press-1"); !strings.HasPrefix(state, "quarantined") {
		t.Errorf("it is %s", state)
	}

	f.Hallmark("attestation", "baseline", "activate", second)
	f.Hallmark("device", "release", "press-1")
	a["press-1"].mustRenew()
	if document := f.appraised("press-1"); document["verdict"] != "affirming" {
		t.Errorf("the record says %v", document)
	}
	a["press-2"].boot("loader 2", "kernel 2")
	a["press-2"].mustRenew()

	a["press-2"].boot("loader 3", "kernel 2")
	told(t, "newer firmware", a["press-2"].renew(), "baseline_mismatch")
	f.Hallmark("attestation", "baseline", "learn", "--device", "press-2", "--refused", "--pcrs", "4", "--activate")
	f.Hallmark("device", "release", "press-2")
	a["press-2"].mustRenew()
	a["press-2"].boot("loader 2", "kernel 2")
	a["press-2"].mustRenew()

	f.Hallmark("attestation", "baseline", "deny", second, "--reason", "it has a hole")
	told(t, "firmware that is denied", a["press-2"].renew(), "baseline_denied")
	if state := f.stateOf("press-2"); !strings.HasPrefix(state, "quarantined baseline_denied") {
		t.Errorf("it is %s", state)
	}
}

// One identity is one TPM: neither another machine nor a copy of the state
// gets a certificate, and the state of last week stops the device.
func TestTPMsAreNotInterchangeable(t *testing.T) {
	f := newFactory(t)
	for _, id := range []string{"gw-1", "gw-2", "gw-3"} {
		f.register(id, "")
	}
	a := f.agent("gw-1", f.maker.TPM(t, swtpm.Options{}))
	a.mustEnrol()

	other := f.agent("gw-1", f.maker.TPM(t, swtpm.Options{}))
	_, errs, _ := other.enrol()
	told(t, "another TPM under the same identity", errs, "ek_mismatch")
	same := f.agent("gw-2", a.machine)
	_, errs, _ = same.enrol()
	told(t, "the same TPM under another identity", errs, "ek_mismatch")
	if state := f.stateOf("gw-1"); !strings.HasPrefix(state, "active") {
		t.Errorf("gw-1 is %s: anybody with a token could stop it", state)
	}

	// The files alone are of no use in another machine.
	_, errs, code := f.Device("renew", "--out", a.out, "--tpm", other.machine.Address())
	if code == 0 || !strings.Contains(errs, tpmdevice.ErrForeignKey.Error()) {
		t.Errorf("the files of one machine in another: %s", errs)
	}
	a.mustRenew()

	// The attestation key of one TPM with the endorsement key of the other.
	thief := &byHand{house: f.House, machine: other.machine, device: "gw-3", token: f.Token("--device", "gw-3"), key: "k", ekFrom: a.machine}
	if got := thief.enrol(byEKCert); got.status != 0 || !strings.Contains(got.text, "TPM_RC") {
		t.Errorf("the secret for another endorsement key came out: %+v", got)
	}

	// A power cycle is none of this; the state of before it is.
	restore := a.machine.Snapshot()
	a.machine.Restart()
	a.machine.Restart()
	a.mustRenew()
	restore()
	told(t, "the state of before", a.renew(), "clock_rollback")
	if state := f.stateOf("gw-1"); !strings.HasPrefix(state, "quarantined clock_rollback") {
		t.Errorf("it is %s", state)
	}

	f.Hallmark("device", "unbind", "gw-1", "--reason", "the board was replaced")
	f.Hallmark("device", "release", "gw-1", "--reason", "the board was replaced")
	other.mustEnrol()
	f.vouched("gw-1", "C")
}

// A TPM of a maker that nobody knows waits, and passes without being touched
// once an operator has added the maker and approved.
func TestAnUnknownMakerWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := "default_profile: device\nprofiles:\n  device: {retry_after: 1s}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir, "--rate-limits=off")
	maker := swtpm.NewMaker(t)
	f := &factory{h, t, maker}
	a := f.agent("gw-1", maker.TPM(t, swtpm.Options{}))
	f.register("gw-1", "")
	done := make(chan string, 1)
	token := f.Token("--device", "gw-1")
	_, errs, code := f.Device("enroll", "--server", f.URL, "--ca", f.CAFile(), "--id", "gw-1", "--token", token, "--tpm", a.machine.Address(), "--out", a.out)
	if code == 0 || !strings.Contains(errs, "202") || !strings.Contains(errs, "held for an operator") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	pending, err := os.ReadFile(filepath.Join(a.out, ".pending", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // the same command, left to itself from here on
		_, errs, _ := f.Device("enroll", "--server", f.URL, "--ca", f.CAFile(), "--id", "gw-1", "--token", token, "--tpm", a.machine.Address(), "--out", a.out, "--wait", "50s")
		done <- errs
	}()
	f.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", maker.RootFile())
	f.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", maker.IssuerFile())
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(f.Hallmark("request", "list", "--state", "pending", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		f.Try("request", "approve", item.ID) // it may have passed by itself since, for its maker is known now
	}
	select {
	case errs := <-done:
		if _, err := os.Stat(filepath.Join(a.out, "cert.pem")); err != nil {
			t.Fatalf("no certificate: %s", errs)
		}
	case <-time.After(time.Minute):
		t.Fatal("still waiting")
	}
	kept, err := os.ReadFile(filepath.Join(a.out, "key.pem"))
	if err != nil || string(kept) != string(pending) {
		t.Errorf("the key changed on the way: %v", err)
	}
	f.vouched("gw-1", "C")
	a.mustRenew()
}
