package storetest

import (
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

func testTokens(t *testing.T, place Place) {
	db := place(t)
	var tokens []enroll.Token
	for n := range 4 {
		token := enroll.Token{ID: audit.NewID(Now.Add(time.Duration(n) * time.Second)).String(), Hash: sha256.Sum256([]byte(rand.Text())),
			Uses: n + 1, Created: Now, Expires: Now.Add(time.Hour), By: "admin"}
		if n%2 == 1 {
			token.Device, token.Profile = "d1", "line"
		}
		event := Event("token.create", token.ID)
		do(t, db.CreateToken(t.Context(), token, event))
		wantRecorded(t, db, event, true)
		tokens = append([]enroll.Token{token}, tokens...)
	}
	found, device, err := db.TokenByHash(t.Context(), tokens[0].Hash, "")
	do(t, err)
	same(t, "token", found, tokens[0])
	same(t, "its device", device, nil)
	importLines(t, db, fleet.Line{Number: 1, Device: fleet.Device{ID: "d1", Model: "m", Labels: map[string]string{"site": "north"}}}, fleet.Line{Number: 2, Device: fleet.Device{ID: "d2"}})
	for named, want := range map[string]string{"": "", "d1": "d1", "d2": "d2", "d3": ""} { // the token's own goes before the one named
		for token, want := range map[[32]byte]string{tokens[0].Hash: "d1", tokens[1].Hash: want} {
			found, device, err := db.TokenByHash(t.Context(), token, named)
			do(t, err)
			same(t, "hash", found.Hash, token)
			if same(t, "known", device != nil, want != ""); device != nil {
				plain, err := db.Device(t.Context(), want)
				do(t, err)
				same(t, "device", *device, plain)
			}
		}
	}
	_, _, err = db.TokenByHash(t.Context(), [32]byte{}, "")
	want(t, err, fault.NotFound, "token_unknown")

	for _, c := range []struct {
		filter enroll.TokenFilter
		want   []enroll.Token
	}{{enroll.TokenFilter{}, tokens}, {enroll.TokenFilter{Limit: 1}, tokens[:1]}, {enroll.TokenFilter{Before: tokens[1].ID}, tokens[2:]},
		{enroll.TokenFilter{Device: "d1", Before: tokens[0].ID}, tokens[2:3]}} {
		found, err := db.Tokens(t.Context(), c.filter)
		do(t, err)
		same(t, "tokens", found, c.want)
	}

	event := Event("token.create", tokens[0].ID)
	want(t, db.CreateToken(t.Context(), tokens[0], event), fault.Conflict, "")
	wantRecorded(t, db, event, false)

	for range 2 { // a revoked one stays revoked, and both calls are recorded
		event = Event("token.revoke", tokens[0].ID)
		do(t, db.RevokeToken(t.Context(), tokens[0].ID, event))
		wantRecorded(t, db, event, true)
		found, _, err = db.TokenByHash(t.Context(), tokens[0].Hash, "")
		do(t, err)
		same(t, "revoked", found.Revoked, true)
	}
	event = Event("token.revoke", "unknown")
	want(t, db.RevokeToken(t.Context(), "unknown", event), fault.NotFound, "token_unknown")
	wantRecorded(t, db, event, false)
}

func testAnchors(t *testing.T, place Place) {
	db := place(t)
	a := enroll.Anchor{ID: "a1", Profile: "default", Kind: enroll.IDevID, Subject: "CN=Maker", DER: []byte{0x30, 0}, Added: Now, By: "admin"}
	b := a
	b.Profile = "line"
	for _, anchor := range []enroll.Anchor{a, b, a} { // adding is idempotent
		event := Event("anchor.add", anchor.ID)
		do(t, db.AddAnchor(t.Context(), anchor, event))
		wantRecorded(t, db, event, true)
	}
	list := func(profile string, kind enroll.AnchorKind) []enroll.Anchor {
		found, err := db.Anchors(t.Context(), profile, kind)
		do(t, err)
		return found
	}
	same(t, "all", list("", ""), []enroll.Anchor{a, b})
	same(t, "of a profile", list("line", enroll.IDevID), []enroll.Anchor{b})
	same(t, "of another kind", list("line", "ek"), []enroll.Anchor(nil))

	event := Event("anchor.remove", "a1")
	want(t, db.RemoveAnchor(t.Context(), "a1", "other", event), fault.NotFound, "anchor_unknown")
	wantRecorded(t, db, event, false)
	do(t, db.RemoveAnchor(t.Context(), "a1", "line", event))
	wantRecorded(t, db, event, true)
	same(t, "one removed", list("", ""), []enroll.Anchor{a})
	do(t, db.AddAnchor(t.Context(), b, Event("anchor.add", "a1")))
	do(t, db.RemoveAnchor(t.Context(), "a1", "", Event("anchor.remove", "a1")))
	same(t, "all removed", list("", ""), []enroll.Anchor(nil))
}

// heldRequest makes a request that waits, under a key of its own.
func heldRequest(device string) enroll.Held {
	return enroll.Held{ID: audit.NewID(Now.Add(time.Duration(next()) * time.Millisecond)).String(), Key: sha256.Sum256([]byte(rand.Text())), Device: device, Profile: "default",
		KeyHash: "aa", Subject: "CN=x", Reasons: []string{"first_seen"}, State: enroll.Pending, Created: Now, Expires: Now.Add(time.Hour), Attempts: 1}
}

func testHeld(t *testing.T, place Place) {
	db := place(t)
	h := heldRequest("d1")
	event := Event("certificate.issue", "d1")
	got, err := db.Hold(t.Context(), h, event)
	do(t, err)
	same(t, "held", got, h)
	wantRecorded(t, db, event, true)

	again := h
	again.ID, again.Subject = audit.NewID(Now).String(), "CN=other"
	event = Event("certificate.issue", "d1")
	got, err = db.Hold(t.Context(), again, event)
	do(t, err)
	h.Attempts = 2
	same(t, "held again", got, h)
	wantRecorded(t, db, event, true)
	got, err = db.HeldByKey(t.Context(), h.Key, Now)
	do(t, err)
	same(t, "by key", got, h)
	_, err = db.HeldByKey(t.Context(), [32]byte{}, Now)
	want(t, err, fault.NotFound, "request_unknown")
	_, err = db.HeldByKey(t.Context(), h.Key, h.Expires)
	want(t, err, fault.NotFound, "request_unknown")

	settle := func(id string, to enroll.HeldState) error {
		event := Event("request.settle", id)
		err := db.SettleHeld(t.Context(), enroll.Settlement{ID: id, To: to, By: "admin", Reason: "known", At: Now}, event)
		wantRecorded(t, db, event, err == nil)
		return err
	}
	want(t, settle("unknown", enroll.Approved), fault.NotFound, "request_unknown")
	do(t, settle(h.ID, enroll.Approved))
	want(t, settle(h.ID, enroll.Rejected), fault.Conflict, "request_settled")
	if settle(h.ID, enroll.Issued) == nil {
		t.Fatal("an operator cannot say that a request is issued")
	}
	h.State, h.By, h.Reason, h.Decided = enroll.Approved, "admin", "known", Now
	got, err = db.HeldByKey(t.Context(), h.Key, Now)
	do(t, err)
	same(t, "approved", got, h)

	// The approval is good for one certificate; then the key is free for a new request.
	id := register(t, db, 1)[0]
	i := Issuance(t, id, Key(t))
	i.Request = h.ID
	do(t, db.Issue(t.Context(), i))
	second := Issuance(t, id, Key(t))
	second.Request = h.ID
	refused(t, db, second, fault.Conflict, "request_not_approved")
	_, err = db.HeldByKey(t.Context(), h.Key, Now)
	want(t, err, fault.NotFound, "request_unknown")
	found, err := db.HeldRequests(t.Context(), enroll.HeldFilter{ID: h.ID})
	do(t, err)
	h.State, h.Serial = enroll.Issued, i.Certificate.Serial
	same(t, "issued", found, []enroll.Held{h})
	again.Attempts = 0
	got, err = db.Hold(t.Context(), again, Event("certificate.issue", "d1"))
	do(t, err)
	if got.ID != again.ID || got.Attempts != 1 {
		t.Fatalf("a new request after the old one was issued: %+v", got)
	}

	// A denial stands until it expires; an expired request makes room.
	do(t, settle(again.ID, enroll.Rejected))
	got, err = db.Hold(t.Context(), heldWith(again, Now.Add(time.Minute)), Event("certificate.issue", "d1"))
	do(t, err)
	same(t, "denied stands", got.State, enroll.Rejected)
	got, err = db.Hold(t.Context(), heldWith(again, Now.Add(2*time.Hour)), Event("certificate.issue", "d1"))
	do(t, err)
	same(t, "expired makes room", got.State, enroll.Pending)

	third := heldRequest("d2")
	_, err = db.Hold(t.Context(), third, Event("certificate.issue", "d2"))
	do(t, err)
	for _, c := range []struct {
		filter enroll.HeldFilter
		n      int
	}{{enroll.HeldFilter{}, 4}, {enroll.HeldFilter{State: enroll.Pending}, 2}, {enroll.HeldFilter{Device: "d2"}, 1},
		{enroll.HeldFilter{Limit: 3}, 3}, {enroll.HeldFilter{ID: "unknown"}, 0}, {enroll.HeldFilter{Before: "0"}, 0}} {
		found, err := db.HeldRequests(t.Context(), c.filter)
		do(t, err)
		if len(found) != c.n {
			t.Errorf("%+v: %d requests, want %d", c.filter, len(found), c.n)
		}
		for i := 1; i < len(found); i++ {
			if found[i].ID >= found[i-1].ID {
				t.Errorf("%+v: not newest first", c.filter)
			}
		}
	}
}

// heldWith is h asked again at another time.
func heldWith(h enroll.Held, at time.Time) enroll.Held {
	h.ID, h.State, h.Created, h.Expires = audit.NewID(at).String(), enroll.Pending, at, at.Add(time.Hour)
	return h
}
