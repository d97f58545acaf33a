package status

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
)

// Config is what a Board is made of.
type Config struct {
	Issuer *ca.Local // whose certificates these are
	Ledger Ledger
	Shelf  Shelf

	URLs   []string // of this door, as certificates name it or did: http://HOST:PORT
	Shards int      // how many lists there are; 0: one of everything, which names no URL

	ListLife   time.Duration // from a list's thisUpdate to its nextUpdate; another is made when half is over. Default 2 h
	AnswerLife time.Duration // likewise of OCSP answers. Default 1 h

	Record func(context.Context, audit.Event) error // puts the responder's certificates on the record
	Now    func() time.Time                         // nil means time.Now
	Logger *slog.Logger                             // nil discards

	Published func(lists int, lag time.Duration, err error) // told of each publication: how long after its oldest revocation, 0 where there was none; may be nil
	Answered  func(what string)                             // told of each OCSP answer: good, revoked, unknown or why there was none; may be nil
}

// The defaults of Config.
const (
	defaultListLife   = 2 * time.Hour
	defaultAnswerLife = time.Hour
)

// Board says of an issuer's certificates whether they count. Lists and OCSP
// answers are made from one view, which is replaced as a whole, so that they agree at every moment.
type Board struct {
	Config
	name   string // of the issuer, in URLs
	ids    []issuerID
	jitter time.Duration // so that replicas do not all make the same lists at once

	view atomic.Pointer[view]
	wake chan struct{}

	turn     sync.Mutex // whoever has it may replace the view
	latest   time.Time  // the latest that the clock has shown
	followed time.Time  // when the ledger was last read to its end
	failed   time.Time  // when something last failed; zero where nothing does
	told     time.Time  // when the log was last told so
	tried    time.Time  // when a list last could not be made for somebody who asked

	responding sync.Mutex
	responder  atomic.Pointer[Responder]
}

// view is what is said at one moment.
type view struct {
	through int64 // position up to which revocations are known
	shards  []*shard
	answers *answers
}

// New returns a board that knows all that is revoked by now.
func New(ctx context.Context, c Config) (*Board, error) {
	if c.Issuer == nil || c.Ledger == nil || c.Shelf == nil || c.Record == nil {
		return nil, errors.New("a status board needs an issuer, a ledger, a shelf and a record")
	}
	if c.ListLife == 0 {
		c.ListLife = defaultListLife
	}
	if c.AnswerLife == 0 {
		c.AnswerLife = defaultAnswerLife
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Board{Config: c, name: ca.IssuerName(c.Issuer.Chain()[0].SubjectKeyId), wake: make(chan struct{}, 1)}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(c.ListLife/16)+1))
	if err != nil {
		return nil, err
	}
	b.jitter = time.Duration(n.Int64())
	if b.ids, err = issuerIDs(c.Issuer.Chain()[0]); err != nil {
		return nil, err
	}
	b.turn.Lock()
	defer b.turn.Unlock()
	v, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	b.view.Store(v)
	b.latest, b.followed = b.Now(), b.Now()
	return b, nil
}

// Wake has the board look at once whether something was revoked.
func (b *Board) Wake() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// pause is between two looks at what others have revoked.
const pause = 750 * time.Millisecond

// Run keeps the board up to date until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		b.settle(b.step(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-b.wake:
		}
	}
}

// step takes in what was revoked since, and makes the lists that are due.
func (b *Board) step(ctx context.Context) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	v, now := b.view.Load(), b.Now()
	if now.Before(b.latest.Add(-skew)) { // the clock was ahead: what seemed to have expired may not have
		var err error
		if v, err = b.load(ctx); err != nil {
			return err
		}
		b.latest = now
	}
	if now.After(b.latest) {
		b.latest = now
	}
	next, oldest, err := b.catchUp(ctx, v)
	if err != nil {
		return err
	}
	b.followed = now
	return b.publish(ctx, next, b.due(next, now), oldest)
}

// settle tells the log of what fails, once a minute, and when it does no more.
func (b *Board) settle(err error) {
	b.turn.Lock()
	defer b.turn.Unlock()
	now := b.Now()
	switch {
	case err == nil && !b.failed.IsZero():
		b.Logger.Info("revocation status is published again", "issuer", b.name)
		b.failed, b.told = time.Time{}, time.Time{}
	case err == nil || errors.Is(err, context.Canceled):
	default:
		if b.failed.IsZero() {
			b.failed = now
		}
		if now.Sub(b.told) >= time.Minute || now.Before(b.told) {
			b.told = now
			b.Logger.Error("revocation status cannot be published: lists that are not complete are not served, and others only until they end", "issuer", b.name, "error", err, "since", b.failed)
		}
	}
}

// Overdue is how many lists that tell of something cannot be served at the
// moment: they lack a revocation, or their time is over.
func (b *Board) Overdue() int {
	n, now := 0, b.Now()
	for _, s := range b.view.Load().shards {
		if len(s.entries) > 0 && !s.servable(now) {
			n++
		}
	}
	return n
}

// Revoked is how many revoked certificates the lists tell of.
func (b *Board) Revoked() int {
	n := 0
	for _, s := range b.view.Load().shards {
		n += len(s.entries)
	}
	return n
}
