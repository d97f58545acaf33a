package storetest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// bare is a certificate without its holder.
func bare(c *ca.Certificate) ca.Certificate {
	b := *c
	b.Holder = nil
	return b
}

func testIssue(t *testing.T, place Place) {
	db := place(t)
	id := register(t, db, 1)[0]
	i := issue(t, db, id)

	got, err := db.Certificate(t.Context(), i.Certificate.Serial)
	do(t, err)
	same(t, "certificate", bare(got), *i.Certificate)
	wantRecorded(t, db, i.Event, true)
	entry, err := db.EntryBySerial(t.Context(), i.Certificate.Serial)
	do(t, err)
	if leaf, _ := i.Event.Leaf(); !bytes.Equal(entry.Leaf, leaf) || entry.Index != -1 {
		t.Fatalf("entry %+v does not tell of the certificate", entry)
	}
	d, err := db.Device(t.Context(), id)
	do(t, err)
	same(t, "state", d.State, fleet.Active)
	same(t, "holder", *got.Holder, d)

	_, err = db.Certificate(t.Context(), "00ff")
	want(t, err, fault.NotFound, "")
	_, err = db.Certificate(t.Context(), "not hex")
	want(t, err, fault.NotFound, "")
	_, err = db.EntryBySerial(t.Context(), "00ff")
	want(t, err, fault.NotFound, "")

	// A serial number exists once.
	again := Issuance(t, id, Key(t))
	again.Certificate.Serial = i.Certificate.Serial
	want(t, db.Issue(t.Context(), again), fault.Conflict, "serial_exists")
	wantRecorded(t, db, again.Event, false)

	// An event that cannot be written takes the certificate with it.
	again = Issuance(t, id, Key(t))
	again.Event.ID = i.Event.ID
	want(t, db.Issue(t.Context(), again), fault.Conflict, "record_exists")
	_, err = db.Certificate(t.Context(), again.Certificate.Serial)
	want(t, err, fault.NotFound, "")
}

// newToken creates a token that is good for so many certificates.
func newToken(t testing.TB, db *store.DB, uses int) enroll.Token {
	t.Helper()
	token := enroll.Token{ID: audit.NewID(Now).String(), Hash: sha256.Sum256([]byte(rand.Text())), Uses: uses,
		Created: Now.Truncate(time.Millisecond), Expires: Now.Add(time.Hour).Truncate(time.Millisecond), By: "admin"}
	do(t, db.CreateToken(t.Context(), token, Event("token.create", token.ID)))
	return token
}

// refused checks that an issuance is refused and leaves nothing behind.
func refused(t testing.TB, db *store.DB, i ca.Issuance, kind fault.Kind, code string) {
	t.Helper()
	want(t, db.Issue(t.Context(), i), kind, code)
	wantRecorded(t, db, i.Event, false)
	_, err := db.Certificate(t.Context(), i.Certificate.Serial)
	want(t, err, fault.NotFound, "")
	if i.Token != "" {
		tokens, err := db.Tokens(t.Context(), enroll.TokenFilter{})
		do(t, err)
		for _, token := range tokens {
			if token.ID == i.Token && token.Used != 0 && code != "token_used" {
				t.Fatalf("a refused issuance has used token %+v", token)
			}
		}
	}
}

func testIssueRefusals(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 6)
	with := func(device string, change func(*ca.Issuance)) ca.Issuance {
		i := Issuance(t, device, Key(t))
		change(&i)
		return i
	}

	token := newToken(t, db, 1)
	refused(t, db, with(ids[0], func(i *ca.Issuance) { i.Token = "unknown" }), fault.Denied, "token_used")
	refused(t, db, with("unknown", func(i *ca.Issuance) { i.Token = token.ID }), fault.Denied, "device_not_in_service")
	late := with(ids[0], func(i *ca.Issuance) { i.Token = token.ID; i.Certificate.NotBefore = token.Expires })
	refused(t, db, late, fault.Denied, "token_used")
	do(t, db.Issue(t.Context(), with(ids[0], func(i *ca.Issuance) { i.Token = token.ID })))
	refused(t, db, with(ids[0], func(i *ca.Issuance) { i.Token = token.ID }), fault.Denied, "token_used")

	token = newToken(t, db, 9)
	for n, state := range []fleet.State{fleet.Quarantined, fleet.Retired} {
		move(t, db, ids[n+1], state)
		refused(t, db, with(ids[n+1], func(i *ca.Issuance) { i.Token = token.ID }), fault.Denied, "device_not_in_service")
		refused(t, db, with(ids[n+1], func(i *ca.Issuance) { i.Activate = false }), fault.Denied, "device_not_in_service")
	}

	key := Key(t)
	do(t, db.Issue(t.Context(), Issuance(t, ids[3], key)))
	stolen := Issuance(t, ids[4], key)
	stolen.Token = token.ID
	refused(t, db, stolen, fault.Denied, "key_in_use")
	do(t, db.Issue(t.Context(), Issuance(t, ids[3], key))) // its own device may have it again

	refused(t, db, with(ids[5], func(i *ca.Issuance) { i.Request = "unknown"; i.Token = token.ID }), fault.Conflict, "request_not_approved")
	do(t, db.RevokeToken(t.Context(), token.ID, Event("token.revoke", token.ID)))
	refused(t, db, with(ids[5], func(i *ca.Issuance) { i.Token = token.ID }), fault.Denied, "token_used")

	wrong := with(ids[5], func(i *ca.Issuance) { i.Certificate.Serial = "xyz" })
	want(t, db.Issue(t.Context(), wrong), fault.Malformed, "serial")
}

func testAdmit(t *testing.T, place Place) {
	db := place(t)
	i := Issuance(t, "stranger", Key(t))
	i.Admit = &fleet.Device{ID: "stranger", Model: "m2", Labels: map[string]string{"line": "4"}}
	do(t, db.Issue(t.Context(), i))
	d, err := db.Device(t.Context(), "stranger")
	do(t, err)
	same(t, "admitted", d, fleet.Device{ID: "stranger", Model: "m2", Labels: map[string]string{"line": "4"}, State: fleet.Active, Created: Now, Changed: Now})

	// Known by now: the state in the register counts.
	move(t, db, "stranger", fleet.Quarantined)
	again := Issuance(t, "stranger", Key(t))
	again.Admit = &fleet.Device{ID: "stranger"}
	refused(t, db, again, fault.Denied, "device_not_in_service")

	ids := register(t, db, 1)
	other := Issuance(t, "other", Key(t))
	other.Admit = &fleet.Device{ID: "other", Serial: "SN-" + ids[0]}
	refused(t, db, other, fault.Conflict, "device_serial_in_use")
	_, err = db.Device(t.Context(), "other")
	want(t, err, fault.NotFound, "")
}

func testCertificates(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 2)
	var serials []string
	for n := range 25 {
		i := Issuance(t, ids[n%2], Key(t))
		if n%5 == 0 {
			i.Certificate.Profile = "line"
		}
		if n >= 20 {
			i.Certificate.NotAfter = Now.Truncate(time.Second)
		}
		do(t, db.Issue(t.Context(), i))
		serials = append(serials, i.Certificate.Serial)
	}
	slices.Reverse(serials)

	list := func(f ca.Filter) string {
		found, err := db.Certificates(t.Context(), f)
		do(t, err)
		var got []string
		for _, c := range found {
			got = append(got, c.Serial)
		}
		return strings.Join(got, " ")
	}
	same(t, "all", list(ca.Filter{}), strings.Join(serials, " "))
	same(t, "limit", list(ca.Filter{Limit: 3}), strings.Join(serials[:3], " "))
	for _, c := range []struct {
		filter ca.Filter
		n      int
	}{{ca.Filter{Device: ids[0]}, 13}, {ca.Filter{Profile: "line"}, 5}, {ca.Filter{Device: ids[1], Profile: "line"}, 2}, {ca.Filter{Device: "nobody"}, 0},
		{ca.Filter{ValidAt: Now.Add(time.Minute)}, 20}, {ca.Filter{ValidAt: Now.Truncate(time.Second)}, 25}, {ca.Filter{ValidAt: Now.Add(-time.Hour)}, 0}} {
		if got := len(strings.Fields(list(c.filter))); got != c.n {
			t.Errorf("filter %+v: %d certificates, want %d", c.filter, got, c.n)
		}
	}
	var paged []string
	f := ca.Filter{Limit: 7}
	for {
		page, err := db.Certificates(t.Context(), f)
		do(t, err)
		for _, c := range page {
			paged = append(paged, c.Serial)
			f.Before = c.Position
		}
		if len(page) < f.Limit {
			break
		}
	}
	same(t, "paged", paged, serials)
}

func testKeyHolder(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 1)
	i := Issuance(t, ids[0], Key(t))
	holder, err := db.KeyHolder(t.Context(), spki(t, i.Certificate))
	do(t, err)
	same(t, "holder of a new key", holder, "")
	do(t, db.Issue(t.Context(), i))
	holder, err = db.KeyHolder(t.Context(), spki(t, i.Certificate))
	do(t, err)
	same(t, "holder", holder, ids[0])

	// Keys that share the 64 bits by which they are indexed are not mixed up. To
	// get such twins without years of search, the second claims a hash that its key does not have.
	ids = register(t, db, 2)
	twin := Issuance(t, ids[0], Key(t))
	twin.Certificate.KeySHA256 = i.Certificate.KeySHA256
	twin.Certificate.KeySHA256[31] ^= 1
	do(t, db.Issue(t.Context(), twin))
	holder, err = db.KeyHolder(t.Context(), spki(t, i.Certificate))
	do(t, err)
	same(t, "holder beside a twin", holder, i.Certificate.Device)
	stolen := Issuance(t, ids[1], Key(t))
	stolen.Certificate.KeySHA256 = i.Certificate.KeySHA256
	refused(t, db, stolen, fault.Denied, "key_in_use")
}
