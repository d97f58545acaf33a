package attest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// attest has the device's evidence accepted, as an enrolment would.
func (h *house) attest(device string, m *machine, v attest.Verdict) attest.Bond {
	h.t.Helper()
	now := time.Now()
	r := m.result("sha256", true)
	log := m.log.Bytes()
	ek := sha256.Sum256(m.tpm.EK.SPKI())
	ak := sha256.Sum256(m.tpm.AK.SPKI())
	bundle := []byte("the evidence of " + device)
	bond := attest.Bond{Device: device, EK: hex.EncodeToString(ek[:]), AK: hex.EncodeToString(ak[:]), AKName: m.tpm.AK.Area.Name(),
		Case: attest.CaseActivation, Bank: r.PCR.Bank, PCRs: r.PCR.Values, First: now, Last: now, Verdict: v,
		Evidence: sha256.Sum256(bundle), EventLog: sha256.Sum256(log)}
	err := h.db.Attest(context.Background(), attest.Outcome{Bond: bond, Blobs: []attest.Blob{
		{SHA256: bond.Evidence, Kind: attest.BundleBlob, Bytes: bundle}, {SHA256: bond.EventLog, Kind: attest.EventLogBlob, Bytes: log}}},
		audit.Event{ID: audit.NewID(now), At: now, Action: "device.attest", Actor: audit.Party{Type: "device", ID: device},
			Object: audit.Party{Type: "device", ID: device}, Outcome: audit.Done})
	if err != nil {
		h.t.Fatal(err)
	}
	return bond
}

func (h *house) learn(device string, pcrs ...int) (attest.Baseline, error) {
	h.t.Helper()
	id := audit.NewID(time.Now()).String()
	return h.baselines.Learn(context.Background(), h.permit(policy.LearnBaseline, id),
		attest.Lesson{ID: id, Device: device, Firmware: "1.0", PCRs: pcrs})
}

func (h *house) deprecate(id string) {
	h.t.Helper()
	if err := h.baselines.Deprecate(context.Background(), h.permit(policy.DeprecateBaseline, id), id, "2.0 is out"); err != nil {
		h.t.Fatal(err)
	}
}

// TestLearn proposes what a device booted, and holds others against it.
func TestLearn(t *testing.T) {
	h, m := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	bond := h.attest("gw-1", m, attest.None)
	b, err := h.learn("gw-1")
	if err != nil {
		t.Fatal(err)
	}
	if b.State != attest.Draft || b.Model != "GW-1" || b.Firmware != "1.0" || b.By != "admin" ||
		!strings.Contains(b.Source, "gw-1") || !strings.Contains(b.Source, hex.EncodeToString(bond.Evidence[:])) {
		t.Errorf("%+v", b)
	}
	if len(b.PCRs["sha256"]) != len(quoted) || len(b.Events[4]) != 2 {
		t.Errorf("%d registers, events of PCR 4: %+v", len(b.PCRs["sha256"]), b.Events[4])
	}
	other := boot(t, "1.0", true, "shim", "linux") // of the same kind, with keys of its own
	if r := other.result("sha256", true); h.appraise(r, nil) != nil || r.Verdict != attest.None {
		t.Error("a proposal counts")
	}
	h.activate(b.ID, "")
	if r := other.result("sha256", true); h.appraise(r, nil) != nil || r.Verdict != attest.Affirming {
		t.Error("it does not count after all")
	}
	evil := boot(t, "1.0", true, "evil shim", "linux").result("sha256", true)
	err = h.appraise(evil, nil)
	wantCode(t, err, "baseline_mismatch")
	if len(evil.Boot.Differences[0].Events) != 1 {
		t.Errorf("the events that were learned explain nothing: %+v", evil.Boot.Differences)
	}
}

// TestLearnSomeRegisters leaves out those that differ between devices.
func TestLearnSomeRegisters(t *testing.T) {
	h, m := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	h.attest("gw-1", m, attest.Warning)
	b, err := h.learn("gw-1", 0, 4)
	if err != nil || len(b.PCRs["sha256"]) != 2 || len(b.Events) != 2 {
		t.Fatalf("%+v, %v", b, err)
	}
	h.activate(b.ID, "")
	if r := boot(t, "1.0", false, "shim", "another").result("sha256", true); h.appraise(r, nil) != nil || r.Verdict != attest.Affirming {
		t.Error("a register that was left out counts")
	}
	_, err = h.learn("gw-1", 0, 23)
	wantCode(t, err, "not_quoted")
}

// TestLearnFromNobody refuses teachers that are no reference.
func TestLearnFromNobody(t *testing.T) {
	h, m, ctx := newHouse(t), boot(t, "1.0", true, "shim", "linux"), context.Background()
	_, err := h.learn("gw-9")
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown: %v", err)
	}
	_, err = h.learn("gw-1")
	wantCode(t, err, "not_attested")
	h.attest("gw-1", m, attest.None)
	if err := h.register.Quarantine(ctx, h.permit(policy.QuarantineDevice, "gw-1"), "gw-1", "odd"); err != nil {
		t.Fatal(err)
	}
	_, err = h.learn("gw-1")
	wantCode(t, err, "device_not_in_service")
	h.attest("gw-2", boot(t, "1.0", true, "shim", "linux"), attest.Contraindicated)
	_, err = h.learn("gw-2")
	wantCode(t, err, "device_contraindicated")
}

// TestLearnWithoutLog learns the registers alone where no log is kept, or the one
// kept is of an earlier boot.
func TestLearnWithoutLog(t *testing.T) {
	h, m := newHouse(t), boot(t, "1.0", true, "shim", "linux")
	h.attest("gw-1", m, attest.None)
	m.tpm.Extend(8, []byte("something that the log lacks"))
	bond, err := h.db.Bond(context.Background(), "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	bond.PCRs = m.quote()
	now := time.Now()
	if err := h.db.Attest(context.Background(), attest.Outcome{Bond: bond}, audit.Event{ID: audit.NewID(now), At: now, Action: "device.attest",
		Actor: audit.Party{Type: "device", ID: "gw-1"}, Object: audit.Party{Type: "device", ID: "gw-1"}, Outcome: audit.Done}); err != nil {
		t.Fatal(err)
	}
	b, err := h.learn("gw-1")
	if err != nil || b.Events != nil || len(b.PCRs["sha256"]) != len(quoted) {
		t.Errorf("%+v, %v", b.Events, err)
	}
}

func (m *machine) quote() map[int][]byte {
	values := map[int][]byte{}
	for _, n := range quoted {
		values[n] = m.tpm.PCR("sha256", n)
	}
	return values
}
