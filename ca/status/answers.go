package status

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha256" // of issuers, in requests
	_ "crypto/sha512" // likewise
	"crypto/x509"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// issuerID is what requests call the issuer, by one hash.
type issuerID struct {
	hash      crypto.Hash
	name, key string
}

func issuerIDs(c *x509.Certificate) ([]issuerID, error) {
	var ids []issuerID
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		key, err := keyHash(c, hash)
		if err != nil {
			return nil, err
		}
		h := hash.New()
		h.Write(c.RawSubject)
		ids = append(ids, issuerID{hash, string(h.Sum(nil)), string(key)})
	}
	return ids, nil
}

// ours reports whether the certificate that is asked about would be the issuer's.
func (b *Board) ours(id *CertID) bool {
	for _, own := range b.ids {
		if own.hash == id.Hash {
			return own.name == id.IssuerName && own.key == id.IssuerKey
		}
	}
	return false
}

// maxAnswers bounds the answers that are kept; each has about a kilobyte.
const maxAnswers = 4096

// answers are those that were given lately, by what was asked. They go with
// the view: after a revocation none is given out again.
type answers struct {
	mu    sync.RWMutex
	known map[string]*reply
}

func newAnswers() *answers { return &answers{} }

func (a *answers) get(asked []byte, now time.Time) *reply {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if r := a.known[string(asked)]; r != nil && now.Before(r.renew) && !r.this.After(now.Add(skew)) {
		return r
	}
	return nil
}

func (a *answers) put(asked []byte, r *reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) >= maxAnswers {
		a.known = make(map[string]*reply)
	}
	a.known[string(asked)] = r
}

// reply is an answer as it is sent.
type reply struct {
	der         []byte
	what        string    // good, revoked, unknown, or why there is none
	this, until time.Time // thisUpdate and nextUpdate; zero where there is no status in it
	renew       time.Time // when another is to be signed
	etag        string
}

func failed(f Failure, what string) *reply { return &reply{der: f.Response(), what: what} }

// answer answers a request, DER.
func (b *Board) answer(ctx context.Context, der []byte) *reply {
	r, err := ParseRequest(der)
	if err != nil {
		return failed(MalformedRequest, "malformed")
	}
	for i := range r.Asked {
		if !b.ours(&r.Asked[i]) { // RFC 5019, Section 2.2.3: nothing is known of what others have issued
			return failed(Unauthorized, "unauthorized")
		}
	}
	v, now := b.view.Load(), b.Now()
	plain := r.Nonce == nil && len(r.Asked) == 1
	if plain {
		if known := v.answers.get(r.Asked[0].raw, now); known != nil {
			return known
		}
	}
	made, err := b.sign(ctx, v, r, now)
	if err != nil {
		b.settle(err)
		return failed(TryLater, "failed")
	}
	if plain && made.what != "unknown" { // what is unknown may be issued in a moment
		v.answers.put(r.Asked[0].raw, made)
	}
	return made
}

// sign makes an answer about what the view knows.
func (b *Board) sign(ctx context.Context, v *view, r *Request, now time.Time) (*reply, error) {
	responder, err := b.respond(ctx, now)
	if err != nil {
		return nil, err
	}
	this := now.UTC().Truncate(time.Second)
	a := &Answer{Asked: r.Asked, Nonce: r.Nonce, ProducedAt: this, ThisUpdate: this, NextUpdate: this.Add(b.AnswerLife)}
	if end := responder.Certificate().NotAfter; end.Before(a.NextUpdate) {
		a.NextUpdate = end
	}
	what := "good"
	for i := range r.Asked {
		s, err := b.standing(ctx, v, []byte(r.Asked[i].Serial))
		if err != nil {
			return nil, err
		}
		switch {
		case s.Verdict == Revoked && what == "good":
			what = "revoked"
		case s.Verdict == Unknown:
			what = "unknown"
		}
		a.Standings = append(a.Standings, s)
	}
	der, err := responder.Sign(a)
	if err != nil {
		return nil, err
	}
	return &reply{der: der, what: what, this: this, until: a.NextUpdate, renew: this.Add(b.AnswerLife / 2), etag: etagOf(der)}, nil
}

// standing is how a certificate stands in a view. A revocation that the view
// does not know yet is in no list either, and is a moment old.
func (b *Board) standing(ctx context.Context, v *view, serial []byte) (Standing, error) {
	if s, revoked := v.shards[shardOf(serial, len(v.shards))].find(serial); revoked {
		return s, nil
	}
	issued, r, err := b.Ledger.Standing(ctx, serial)
	switch {
	case err != nil:
		return Standing{}, err
	case !issued:
		return Standing{Verdict: Unknown}, nil
	case r != nil && (r.Position <= v.through || b.blind()): // one that has expired since, or of which the lists will not hear
		return Standing{Verdict: Revoked, At: r.At, Reason: r.Reason}, nil
	}
	return Standing{Verdict: Good}, nil
}

// blind reports whether the ledger has not been read for a while.
func (b *Board) blind() bool {
	if !b.turn.TryLock() {
		return false // it is being read
	}
	defer b.turn.Unlock()
	return b.Now().Sub(b.followed) > 10*pause
}

// respond returns the responder. Its key is made here, lives in memory, and is
// replaced with its certificate long before that ends.
func (b *Board) respond(ctx context.Context, now time.Time) (*Responder, error) {
	if r := b.responder.Load(); r != nil && !outworn(r, now) {
		return r, nil
	}
	b.responding.Lock()
	defer b.responding.Unlock()
	if r := b.responder.Load(); r != nil && !outworn(r, now) {
		return r, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificate, err := b.Issuer.Responder(key.Public(), now)
	if err != nil {
		return nil, err
	}
	r, err := NewResponder(certificate, key)
	if err != nil {
		return nil, err
	}
	if err := b.Record(ctx, ca.Made("responder.create", "ocsp", certificate, now)); err != nil {
		return nil, err
	}
	b.responder.Store(r)
	return r, nil
}

func outworn(r *Responder, now time.Time) bool {
	return ca.ResponderDue(r.Certificate(), now) || now.Before(r.Certificate().NotBefore)
}
