package storetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// withdrawal is an order to revoke, by the operator admin.
func withdrawal(target ca.Target, reason ca.RevocationReason) ca.Withdrawal {
	return ca.Withdrawal{Target: target, Reason: reason, By: "admin", At: Now.Truncate(time.Second),
		EventWith: func(*ca.Revoked) (audit.Event, error) { return Event("certificate.revoke", target.Object()), nil }}
}

// revoked lists serial numbers with their reasons.
func revoked(all []ca.Revocation) string {
	var text []string
	for _, r := range all {
		text = append(text, r.Serial+" "+string(r.Reason))
	}
	slices.Sort(text)
	return fmt.Sprint(text)
}

// testRevoke: a certificate that is revoked stays so, for the first reason, and says so wherever it is read.
func testRevoke(t *testing.T, place Place) {
	db := place(t)
	id := register(t, db, 1)[0]
	one, two := issue(t, db, id), issue(t, db, id)
	done, err := db.Revoke(t.Context(), withdrawal(ca.Target{Serial: one.Certificate.Serial}, ca.Superseded))
	do(t, err)
	if len(done.Fresh) != 1 || done.Fresh[0].Position == 0 || len(done.Stopped) > 0 {
		t.Fatalf("got %+v", done)
	}
	first := done.Fresh[0]
	entry, err := db.Entry(t.Context(), first.Record)
	do(t, err)
	if !bytes.Contains(entry.Leaf, []byte("certificate.revoke")) {
		t.Fatalf("the record holds %s", entry.Leaf)
	}
	for _, handle := range []*store.DB{db, place(t)} {
		found, err := handle.Certificate(t.Context(), one.Certificate.Serial)
		do(t, err)
		same(t, "revocation", *found.Revoked, first)
		found, err = handle.Certificate(t.Context(), two.Certificate.Serial)
		do(t, err)
		if found.Revoked != nil {
			t.Fatalf("got %+v", found.Revoked)
		}
	}

	again, err := db.Revoke(t.Context(), withdrawal(ca.Target{Serial: one.Certificate.Serial}, ca.CessationOfOperation))
	do(t, err)
	if len(again.Fresh) > 0 || len(again.Standing) != 1 {
		t.Fatalf("got %+v", again)
	}
	same(t, "what stands", again.Standing[0], first)

	for which, want := range map[ca.Which][]string{ca.OnlyRevoked: {one.Certificate.Serial}, ca.OnlyUnrevoked: {two.Certificate.Serial},
		ca.Either: {two.Certificate.Serial, one.Certificate.Serial}} {
		found, err := db.Certificates(t.Context(), ca.Filter{Device: id, Revoked: which})
		do(t, err)
		var serials []string
		for _, c := range found {
			serials = append(serials, c.Serial)
		}
		same(t, fmt.Sprint("certificates ", which), serials, want)
	}
	for target, code := range map[ca.Target]string{{Serial: "77"}: "not_found", {Serial: "x"}: "not_found", {Device: "nobody"}: "device_unknown", {Key: [32]byte{1}}: "key_unknown"} {
		_, err := db.Revoke(t.Context(), withdrawal(target, ca.Superseded))
		want(t, err, fault.NotFound, code)
	}
	w := withdrawal(ca.Target{Serial: two.Certificate.Serial}, ca.Superseded)
	w.EventWith = func(*ca.Revoked) (audit.Event, error) { return audit.Event{}, errors.New("no event") }
	if _, err = db.Revoke(t.Context(), w); err == nil {
		t.Fatal("revoked without an event")
	}
	found, err := db.Certificate(t.Context(), two.Certificate.Serial)
	do(t, err)
	if found.Revoked != nil {
		t.Fatal("a revocation that failed has left something behind")
	}
}

// testRevokeDevice: all that has not expired, and the device is stopped unless it is to be kept.
func testRevokeDevice(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 2)
	one, two, other := issue(t, db, ids[0]), issue(t, db, ids[0]), issue(t, db, ids[1])
	expired := Issuance(t, ids[0], Key(t))
	expired.Certificate.NotAfter = Now.Add(-time.Minute)
	do(t, db.Issue(t.Context(), expired))
	done, err := db.Revoke(t.Context(), withdrawal(ca.Target{Device: ids[0], Keep: true}, ca.PrivilegeWithdrawn))
	do(t, err)
	same(t, "revoked", len(done.Fresh), 2)
	three := Issuance(t, ids[0], Key(t))
	do(t, db.Issue(t.Context(), three)) // by a token, say
	done, err = db.Revoke(t.Context(), withdrawal(ca.Target{Device: ids[0]}, ca.KeyCompromise))
	do(t, err)
	same(t, "revoked", revoked(done.Fresh), fmt.Sprintf("[%s keyCompromise]", three.Certificate.Serial))
	same(t, "standing", len(done.Standing), 2)
	same(t, "stopped", done.Stopped, ids[:1])
	device, err := db.Device(t.Context(), ids[0])
	do(t, err)
	same(t, "state", device.State, fleet.Quarantined)
	want(t, db.Issue(t.Context(), Issuance(t, ids[0], Key(t))), fault.Denied, "device_not_in_service")
	found, err := db.Certificate(t.Context(), other.Certificate.Serial)
	do(t, err)
	if found.Revoked != nil || one.Certificate.Serial == two.Certificate.Serial {
		t.Fatal("another device's certificate was revoked along")
	}
}

// testRevokeKey: a key that is known to others is never certified again, whoever asks.
func testRevokeKey(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 3)
	key, lost, kept := Key(t), Key(t), Key(t)
	certify := func(id string, key *ecdsa.PrivateKey) (string, error) {
		i := Issuance(t, id, key)
		return i.Certificate.Serial, db.Issue(t.Context(), i)
	}
	first := Issuance(t, ids[0], key)
	do(t, db.Issue(t.Context(), first))
	_, err := certify(ids[0], key)
	do(t, err)
	done, err := db.Revoke(t.Context(), withdrawal(ca.Target{Key: first.Certificate.KeySHA256}, ca.Superseded))
	do(t, err)
	if len(done.Fresh) != 2 || len(done.Stopped) > 0 {
		t.Fatalf("got %+v", done)
	}
	for _, id := range ids[:2] {
		_, err = certify(id, key)
		want(t, err, fault.Denied, "key_revoked")
	}
	_, err = certify(ids[0], Key(t))
	do(t, err)

	// The same by one of the certificates over it, if its key is what was compromised, and only then.
	_, err = certify(ids[1], lost)
	do(t, err)
	serial, err := certify(ids[1], lost)
	do(t, err)
	done, err = db.Revoke(t.Context(), withdrawal(ca.Target{Serial: serial}, ca.KeyCompromise))
	do(t, err)
	same(t, "revoked", len(done.Fresh), 2)
	_, err = certify(ids[1], lost)
	want(t, err, fault.Denied, "key_revoked")
	serial, err = certify(ids[2], kept)
	do(t, err)
	_, err = db.Revoke(t.Context(), withdrawal(ca.Target{Serial: serial}, ca.Superseded))
	do(t, err)
	_, err = certify(ids[2], kept)
	do(t, err)
	_, err = db.Revoke(t.Context(), withdrawal(ca.Target{Serial: serial}, ca.KeyCompromise)) // what was superseded turns out to be known to others
	do(t, err)
	_, err = certify(ids[2], kept)
	want(t, err, fault.Denied, "key_revoked")
}

// testRevokeRace: while 64 renewals are on their way at two handles, the
// certificate that they stand on is revoked: nothing is issued once that is acknowledged, and what was issued before
// is known to whoever revokes the device.
func testRevokeRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	const renewals, rounds = 64, 12
	ids := register(t, handles[0], rounds)
	issuedLate, refused := 0, 0
	for round, id := range ids {
		held := issue(t, handles[0], id)
		target := []ca.Target{{Serial: held.Certificate.Serial}, {Device: id}, {Device: id, Keep: true}, {Key: held.Certificate.KeySHA256}}[round%4]
		issuances := make([]ca.Issuance, renewals)
		for n := range issuances {
			issuances[n] = Issuance(t, id, Key(t))
			issuances[n].Presented = held.Certificate.Serial
		}
		var acknowledged atomic.Bool
		var done ca.Revoked
		when := renewals * (round % 3) / 2 // first, in the middle, last
		var late atomic.Int64
		errs := together(renewals+1, func(n int) error {
			if n == when {
				time.Sleep(time.Duration(round%3) * time.Millisecond)
				var err error
				done, err = handles[1].Revoke(context.Background(), withdrawal(target, ca.PrivilegeWithdrawn))
				acknowledged.Store(true)
				return err
			}
			if n > when {
				n--
			}
			after := acknowledged.Load()
			err := handles[n%2].Issue(context.Background(), issuances[n])
			if err == nil && after {
				late.Add(1)
			}
			return err
		})
		issuedLate += int(late.Load())
		do(t, errs[when])
		known := map[string]bool{}
		for _, r := range done.Fresh {
			known[r.Serial] = true
		}
		for n, i := range slices.Delete(errs, when, when+1) {
			if i != nil {
				if code := fault.Of(i).Code; code != "certificate_revoked" && code != "device_not_in_service" {
					t.Fatalf("round %d: %v", round, i)
				}
				refused++
				continue
			}
			if target.Device != "" && !known[issuances[n].Certificate.Serial] {
				t.Fatalf("round %d: a certificate was issued that revoking the device has not seen", round)
			}
		}
		i := Issuance(t, id, Key(t))
		i.Presented = held.Certificate.Serial
		if err := handles[round%2].Issue(t.Context(), i); !fault.Is(err, fault.Denied) {
			t.Fatalf("round %d: a renewal after the revocation: %v", round, err)
		}
	}
	if issuedLate > 0 || refused == 0 {
		t.Fatalf("%d certificates were issued after the acknowledgement; %d renewals were refused", issuedLate, refused)
	}
	t.Logf("%d of %d renewals came too late", refused, renewals*rounds)
}

// testRevocations: the ledger tells of revocations in order, each once, and of what was never issued.
func testRevocations(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	ids := register(t, handles[0], 20)
	serials := make([]string, len(ids))
	for n, id := range ids {
		serials[n] = issue(t, handles[0], id).Certificate.Serial
	}
	errs := together(len(ids), func(n int) error {
		_, err := handles[n%2].Revoke(context.Background(), withdrawal(ca.Target{Serial: serials[n]}, ca.Superseded))
		return err
	})
	do(t, errors.Join(errs...))
	var all []ca.Revocation
	for {
		after := int64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Position
		}
		page, err := handles[1].Revocations(t.Context(), after, Now, 7)
		do(t, err)
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	same(t, "revocations", len(all), len(ids))
	for _, r := range all {
		if !slices.Contains(serials, r.Serial) || r.Issuer != "07070707" || r.Reason != ca.Superseded || r.By != "admin" {
			t.Fatalf("got %+v", r)
		}
	}
	page, err := handles[0].Revocations(t.Context(), 0, Now.Add(48*time.Hour), 7)
	do(t, err)
	same(t, "of what has not expired", len(page), 0)
	number := func(serial string) []byte {
		b, err := hex.DecodeString(serial)
		do(t, err)
		return b
	}
	issued, r, err := handles[0].Standing(t.Context(), number(serials[0]))
	do(t, err)
	if !issued || r == nil || r.Issuer != "07070707" || r.Reason != ca.Superseded {
		t.Fatalf("got %v, %+v", issued, r)
	}
	issued, r, err = handles[0].Standing(t.Context(), number(issue(t, handles[0], ids[0]).Certificate.Serial))
	do(t, err)
	if !issued || r != nil {
		t.Fatalf("got %v, %+v", issued, r)
	}
	if issued, _, err = handles[0].Standing(t.Context(), []byte{1, 2, 3}); issued || err != nil {
		t.Fatalf("got %v, %v", issued, err)
	}
}

// testLists: numbers are given out once, and an older list never takes the place of a newer one.
func testLists(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	var seen [60]int64
	errs := together(len(seen), func(n int) error {
		numbers, err := handles[n%2].Numbers(context.Background(), "abcd", []int{-1, 3, 5})
		if err == nil {
			seen[n] = numbers[1]
		}
		return err
	})
	do(t, errors.Join(errs...))
	slices.Sort(seen[:])
	for n, number := range seen {
		same(t, "number", number, int64(n+1))
	}
	found, err := handles[0].Lists(t.Context(), "abcd", nil)
	do(t, err)
	same(t, "lists", len(found), 0)
	list := status.List{Issuer: "abcd", Shard: 3, Number: 60, Through: 9, ThisUpdate: Now.Truncate(time.Second), NextUpdate: Now.Add(time.Hour).Truncate(time.Second), DER: []byte("sixty")}
	do(t, handles[0].KeepLists(t.Context(), []status.List{list}))
	for _, worse := range []status.List{{Issuer: "abcd", Shard: 3, Number: 59, Through: 10}, {Issuer: "abcd", Shard: 3, Number: 61, Through: 8}} {
		worse.ThisUpdate, worse.NextUpdate, worse.DER = Now, Now, []byte("worse")
		do(t, handles[1].KeepLists(t.Context(), []status.List{worse}))
	}
	found, err = handles[1].Lists(t.Context(), "abcd", []int{2, 3})
	do(t, err)
	same(t, "lists", found, []status.List{list})

	for _, url := range []string{"http://a", "http://b", "http://a"} {
		_, err = handles[0].Addresses(t.Context(), url, Now)
		do(t, err)
	}
	all, err := handles[1].Addresses(t.Context(), "http://b", Now.Add(time.Hour))
	do(t, err)
	same(t, "addresses", all, []string{"http://a", "http://b"})
}
