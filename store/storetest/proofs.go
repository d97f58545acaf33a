package storetest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// TPM is what tells one TPM from another.
type TPM struct{ EK, AK string }

// NewTPM makes one up.
func NewTPM() TPM { return TPM{randomHash(), randomHash()} }

func randomHash() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// Outcome makes what accepted evidence of the device's leaves behind. The
// bundle is random; an event log of that many bytes is the same for everybody.
func Outcome(device string, tpm TPM, clock uint64, eventLog int) attest.Outcome {
	bundle := make([]byte, 1500)
	rand.Read(bundle[len(bundle)/2:])
	o := attest.Outcome{Blobs: []attest.Blob{{SHA256: sha256.Sum256(bundle), Kind: attest.BundleBlob, Bytes: bundle}}}
	at := Now.Add(time.Duration(clock) * time.Millisecond).Truncate(time.Millisecond)
	o.Bond = attest.Bond{Device: device, EK: tpm.EK, TPM: attest.Make{Manufacturer: "id:49465800", Model: "SLB9670", Version: "id:0755"}, AK: tpm.AK, AKName: append([]byte{0, 11}, bundle[1400:1432]...), AKPublic: bundle[1300:1390],
		Key: [32]byte(bundle[1200:1232]), Case: attest.CaseActivation,
		Clock: attest.Clock{Clock: clock, Reset: 3, Restart: 1, Safe: true, Firmware: 0xf000_0001_0002_0003},
		Bank:  "sha256", PCRs: map[int][]byte{0: bundle[1000:1032], 7: bundle[1032:1064], 14: bundle[1064:1096]},
		First: at, Last: at, Verdict: attest.Warning, Evidence: o.Blobs[0].SHA256}
	if eventLog > 0 {
		log := make([]byte, eventLog)
		for i := range log {
			log[i] = byte(i * i >> 7)
		}
		o.Blobs = append(o.Blobs, attest.Blob{SHA256: sha256.Sum256(log), Kind: attest.EventLogBlob, Bytes: log})
		o.Bond.EventLog = o.Blobs[1].SHA256
	}
	return o
}

// bind issues to the device with a proof of the TPM, and returns the proof.
func bind(t testing.TB, db *store.DB, device string, tpm TPM, clock uint64) attest.Outcome {
	t.Helper()
	o := Outcome(device, tpm, clock, 0)
	i := Issuance(t, device, Key(t))
	i.Attested = &o
	do(t, db.Issue(t.Context(), i))
	return o
}

func wantBond(t testing.TB, db *store.DB, bond attest.Bond) {
	t.Helper()
	got, err := db.Bond(t.Context(), bond.Device)
	do(t, err)
	same(t, "bond", got, bond)
}

func wantEvidence(t testing.TB, db *store.DB, blobs []attest.Blob, yes bool) {
	t.Helper()
	for _, b := range blobs {
		got, err := db.Evidence(t.Context(), b.SHA256)
		if !yes {
			want(t, err, fault.NotFound, "evidence_unknown")
			continue
		}
		do(t, err)
		same(t, "evidence", got, b)
	}
}

func testBond(t *testing.T, place Place) {
	db := place(t)
	id := register(t, db, 1)[0]
	_, err := db.Bond(t.Context(), id)
	want(t, err, fault.NotFound, "bond_unknown")
	_, err = db.Bond(t.Context(), "unknown")
	want(t, err, fault.NotFound, "bond_unknown")

	tpm := NewTPM()
	o := Outcome(id, tpm, 1000, 30_000)
	i := Issuance(t, id, Key(t))
	i.Attested = &o
	do(t, db.Issue(t.Context(), i))
	wantRecorded(t, db, i.Event, true)
	wantBond(t, db, o.Bond)
	wantEvidence(t, db, o.Blobs, true)
	for _, c := range []struct {
		ek, ak string
		found  bool
	}{{tpm.EK, "", true}, {"", tpm.AK, true}, {tpm.EK, tpm.AK, true}, {randomHash(), tpm.AK, true}, {"", "", false},
		{tpm.AK, tpm.EK, false}, {"no hex", "", false}, {randomHash(), randomHash(), false}} {
		got, err := db.BondOf(t.Context(), c.ek, c.ak)
		if !c.found {
			want(t, err, fault.NotFound, "bond_unknown")
			continue
		}
		do(t, err)
		same(t, "bond", got, o.Bond)
	}

	// An operator lifts the binding; the evidence stays.
	event := Event("device.unbind", id)
	do(t, db.Unbind(t.Context(), id, event))
	wantRecorded(t, db, event, true)
	_, err = db.Bond(t.Context(), id)
	want(t, err, fault.NotFound, "bond_unknown")
	wantEvidence(t, db, o.Blobs, true)
	for who, code := range map[string]string{id: "bond_unknown", "unknown": "device_unknown"} {
		event = Event("device.unbind", who)
		want(t, db.Unbind(t.Context(), who, event), fault.NotFound, code)
		wantRecorded(t, db, event, false)
	}
	wantBond(t, db, bind(t, db, id, NewTPM(), 5).Bond)

	// Where only an attestation key was ever shown, and little is known.
	other := register(t, db, 1)[0]
	bare := attest.Outcome{Bond: attest.Bond{Device: other, AK: randomHash(), Case: attest.CaseCertificate, First: o.Bond.First, Last: o.Bond.Last}}
	i = Issuance(t, other, Key(t))
	i.Attested = &bare
	do(t, db.Issue(t.Context(), i))
	wantBond(t, db, bare.Bond)
	for _, broken := range []attest.Bond{{Device: other}, {Device: id, AK: randomHash()}, {Device: other, EK: "no hex"}, {Device: other, EK: tpm.EK[:62]}} {
		i := Issuance(t, other, Key(t))
		i.Attested = &attest.Outcome{Bond: broken}
		if err := db.Issue(t.Context(), i); err == nil {
			t.Fatalf("a bond was kept that cannot be: %+v", broken)
		}
	}
}

func testBondRefusals(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 4)
	a, b := NewTPM(), NewTPM()
	bound := bind(t, db, ids[0], a, 10).Bond
	onlyAK := TPM{AK: randomHash()}
	bind(t, db, ids[3], onlyAK, 10)
	for what, c := range map[string]struct {
		device string
		tpm    TPM
	}{
		"another TPM":                     {ids[0], b},
		"another attestation key, alone":  {ids[0], TPM{AK: b.AK}},
		"another endorsement key, old AK": {ids[0], TPM{b.EK, a.AK}},
		"somebody's TPM":                  {ids[1], a},
		"somebody's endorsement key":      {ids[1], TPM{a.EK, b.AK}},
		"somebody's attestation key":      {ids[1], TPM{AK: a.AK}},
		"AK with an EK that is new":       {ids[1], TPM{randomHash(), onlyAK.AK}},
		"AK bound, another shown":         {ids[3], TPM{AK: b.AK}},
		"AK bound, an EK shown":           {ids[3], b},
	} {
		t.Run(what, func(t *testing.T) {
			o := Outcome(c.device, c.tpm, 20, 9000)
			i := Issuance(t, c.device, Key(t))
			i.Token = newToken(t, db, 1).ID
			i.Attested = &o
			refused(t, db, i, fault.Denied, "ek_mismatch")
			wantEvidence(t, db, o.Blobs, false)

			event := Event("device.attest", c.device)
			want(t, db.Attest(t.Context(), o, event), fault.Denied, "ek_mismatch")
			wantRecorded(t, db, event, false)
			wantEvidence(t, db, o.Blobs, false)
		})
	}
	wantBond(t, db, bound)

	// The same TPM with a new attestation key, and with fewer keys shown.
	next := Outcome(ids[0], TPM{a.EK, randomHash()}, 30, 0)
	do(t, db.Attest(t.Context(), next, Event("device.attest", ids[0])))
	next.Bond.First = bound.First
	wantBond(t, db, next.Bond)
	last := Outcome(ids[0], TPM{AK: next.Bond.AK}, 40, 0)
	do(t, db.Attest(t.Context(), last, Event("device.attest", ids[0])))
	last.Bond.First, last.Bond.EK = bound.First, a.EK
	wantBond(t, db, last.Bond)
	last = Outcome(ids[3], TPM{randomHash(), onlyAK.AK}, 40, 0) // an endorsement key comes to be known
	do(t, db.Attest(t.Context(), last, Event("device.attest", ids[3])))
	refusedBy := Outcome(ids[2], TPM{last.Bond.EK, randomHash()}, 1, 0)
	want(t, db.Attest(t.Context(), refusedBy, Event("device.attest", ids[2])), fault.Denied, "ek_mismatch")
}

func testAttest(t *testing.T, place Place) {
	db := place(t)
	id := register(t, db, 1)[0]
	tpm := NewTPM()
	o := Outcome(id, tpm, 1, 5000)
	event := Event("device.attest", id)
	do(t, db.Attest(t.Context(), o, event))
	wantRecorded(t, db, event, true)
	wantBond(t, db, o.Bond)
	wantEvidence(t, db, o.Blobs, true)
	d, err := db.Device(t.Context(), id)
	do(t, err)
	same(t, "state", d.State, fleet.Expected) // it has no certificate yet

	event = Event("device.attest", "unknown")
	want(t, db.Attest(t.Context(), Outcome("unknown", NewTPM(), 1, 0), event), fault.Denied, "device_not_in_service")
	wantRecorded(t, db, event, false)
	move(t, db, id, fleet.Quarantined)
	event = Event("device.attest", id)
	later := Outcome(id, tpm, 2, 6000)
	want(t, db.Attest(t.Context(), later, event), fault.Denied, "device_not_in_service")
	wantRecorded(t, db, event, false)
	wantEvidence(t, db, later.Blobs, false)
	wantBond(t, db, o.Bond)

	// A stranger that is admitted brings its TPM along.
	i := Issuance(t, "stranger", Key(t))
	o = Outcome("stranger", NewTPM(), 7, 0)
	i.Admit, i.Attested = &fleet.Device{ID: "stranger"}, &o
	do(t, db.Issue(t.Context(), i))
	wantBond(t, db, o.Bond)
}

// testBondJoins: proofs of one TPM that come out of order do not set it back.
func testBondJoins(t *testing.T, place Place) {
	db := place(t)
	id, tpm := register(t, db, 1)[0], NewTPM()
	at := func(clock attest.Clock, change func(*attest.Bond)) attest.Bond {
		t.Helper()
		o := Outcome(id, tpm, 100*uint64(clock.Reset)+clock.Clock, 0)
		o.Bond.Clock = clock
		if change != nil {
			change(&o.Bond)
		}
		do(t, db.Attest(t.Context(), o, Event("device.attest", id)))
		return o.Bond
	}
	first := at(attest.Clock{Reset: 1, Restart: 1, Clock: 50}, func(b *attest.Bond) { b.Affirmed = b.Last; b.EventLog = b.Key })
	latest := at(attest.Clock{Reset: 2, Restart: 0, Clock: 10}, func(b *attest.Bond) { b.AKPublic, b.Bank, b.PCRs = nil, "", nil })
	latest.First, latest.Affirmed, latest.EventLog = first.First, first.Affirmed, first.EventLog
	latest.AKPublic, latest.Bank, latest.PCRs = first.AKPublic, first.Bank, maps.Clone(first.PCRs)
	wantBond(t, db, latest)
	for _, early := range []attest.Clock{{Reset: 1, Restart: 9, Clock: 99}, {Reset: 2, Restart: 0, Clock: 9}, {Reset: 0, Restart: 0, Clock: 1 << 40}} {
		at(early, func(b *attest.Bond) { b.First = latest.First.Add(time.Second) })
		wantBond(t, db, latest)
	}
	latest.Affirmed = at(attest.Clock{Reset: 1, Restart: 9, Clock: 99}, func(b *attest.Bond) { b.Affirmed = Now.Add(time.Hour).Truncate(time.Millisecond) }).Affirmed
	wantBond(t, db, latest)
	other := at(attest.Clock{Reset: 1, Restart: 0, Clock: 1}, func(b *attest.Bond) { b.AK = NewTPM().AK })
	if got, err := db.Bond(t.Context(), id); err != nil || got.AK != other.AK || got.Clock != other.Clock {
		t.Errorf("after another attestation key of the same TPM: %+v, %v", got, err)
	}
}

func testEvidence(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	_, err := handles[0].Evidence(t.Context(), [32]byte{1})
	want(t, err, fault.NotFound, "evidence_unknown")
	do(t, handles[0].KeepEvidence(t.Context(), nil))
	var blobs []attest.Blob
	for _, size := range []int{0, 1, 100, 5000, 700_000, 1<<20 + 1} {
		b := make([]byte, size)
		rand.Read(b[size/2:])
		blobs = append(blobs, attest.Blob{SHA256: sha256.Sum256(b), Kind: attest.EventLogBlob, Bytes: b})
	}
	for range 3 { // all at once, in both directions, and once more
		for _, err := range together(12, func(n int) error {
			mine := append([]attest.Blob{}, blobs...)
			if n%2 == 1 {
				for i, b := range blobs {
					mine[len(mine)-1-i] = b
				}
			}
			return handles[n/2%2].KeepEvidence(t.Context(), mine)
		}) {
			do(t, err)
		}
	}
	wantEvidence(t, handles[1], blobs, true)
}
