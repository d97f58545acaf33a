package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Log is the Merkle tree over the record. Several processes may run one over
// the same Store; the Store's lock decides who takes each step. A Log holds no
// state of the tree: every step starts from what the Store holds, and checks it.
type Log struct {
	Store    Store
	Signer   note.Signer      // signs checkpoints; its name is the log's origin
	Verifier note.Verifier    // the public half of Signer, as in log.pub
	Now      func() time.Time // nil means time.Now
	Logger   *slog.Logger     // told by Run of failures and recoveries; nil means slog.Default()
	Observe  func(Step)       // told of each step that had leaves or failed, for metrics; may be nil

	once sync.Once
	wake chan struct{}
}

// Step is what one call of Sequence did.
type Step struct {
	Leaves int           // how many were integrated
	Took   time.Duration // the whole step, commit included
	Lag    time.Duration // age of the oldest of them; 0 if the step failed
	Err    error
}

// What Run goes by.
const (
	batch        = 1024             // leaves per step
	interval     = time.Second      // between looks at the Store
	longestPause = 30 * time.Second // between tries while the Store fails
	lastFlush    = 10 * time.Second // for the final flush
)

// Sequence takes one step: it gives up to 1024 waiting leaves their place in
// the tree and signs a checkpoint over them. It returns how many there were; 0
// means that everything committed before the call stands in the tree. If the
// stored tree does not match its own signed checkpoint the error has the code
// record_damaged, and nothing is ever signed on top of it.
func (l *Log) Sequence(ctx context.Context) (int, error) {
	var oldest []byte
	start := l.now()
	n, err := l.Store.Sequence(ctx, batch, func(leaves [][]byte) (Growth, error) {
		if len(leaves) > 0 {
			oldest = leaves[0]
		}
		return l.grow(ctx, leaves)
	})
	if l.Observe != nil && (n > 0 || err != nil) {
		end := l.now()
		step := Step{Leaves: n, Took: end.Sub(start), Err: err}
		if err == nil {
			step.Lag = age(oldest, end)
		}
		l.Observe(step)
	}
	if err != nil {
		return 0, fmt.Errorf("sequencing the log: %w", err)
	}
	return n, nil
}

// grow extends the tree that the Store holds by leaves.
func (l *Log) grow(ctx context.Context, leaves [][]byte) (Growth, error) {
	if l.Signer == nil || l.Signer.Name() != l.Verifier.Name() || l.Signer.KeyHash() != l.Verifier.KeyHash() {
		return Growth{}, errors.New("the log's signer is not the private half of its public key")
	}
	old, err := l.head(ctx)
	if err != nil {
		return Growth{}, err
	}
	e, err := l.edge(ctx, old)
	if err != nil {
		return Growth{}, err
	}
	for _, leaf := range leaves {
		e.append(tlog.RecordHash(leaf))
	}
	signed, err := Checkpoint{Origin: old.Origin, Size: e.size, Root: e.root()}.sign(l.Signer)
	if err != nil {
		return Growth{}, err
	}
	return Growth{First: old.Size, Tiles: e.changed(), Checkpoint: signed}, nil
}

// head returns the Store's checkpoint with its signature checked. That of an
// empty log is not signed yet.
func (l *Log) head(ctx context.Context) (Checkpoint, error) {
	origin := l.Verifier.Name()
	signed, err := l.Store.Checkpoint(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(signed) == 0 {
		return Checkpoint{Origin: origin, Root: new(edge).root()}, l.vacant(ctx)
	}
	c, err := OpenCheckpoint(signed, note.VerifierList(l.Verifier))
	if err != nil {
		return Checkpoint{}, damaged("the stored checkpoint cannot be trusted: %w", err)
	}
	return c, nil
}

// vacant returns an error unless a log without a checkpoint is really empty.
func (l *Log) vacant(ctx context.Context) error {
	hashes, err := l.Store.Tile(ctx, 0, 0)
	if err != nil {
		return err
	}
	if len(hashes) > 0 {
		return damaged("there are hashes of %d entries but no checkpoint: it was removed", len(hashes)/tlog.HashSize)
	}
	return nil
}

// edge loads the right-hand edge of the tree and holds it against the checkpoint.
func (l *Log) edge(ctx context.Context, c Checkpoint) (*edge, error) {
	e := &edge{size: c.Size}
	for level := 0; c.Size>>(tileHeight*level) > 0; level++ {
		var hashes []byte
		if n, index := width(c.Size, level), c.Size>>(tileHeight*(level+1)); n > 0 {
			var err error
			if hashes, err = l.Store.Tile(ctx, level, index); err != nil {
				return nil, err
			}
			if len(hashes) != n*tlog.HashSize {
				return nil, damaged("tile %d/%d holds %d bytes of hashes, the checkpoint of %d entries asks for %d",
					level, index, len(hashes), c.Size, n*tlog.HashSize)
			}
		}
		e.levels, e.grown = append(e.levels, slices.Clip(hashes)), append(e.grown, false)
	}
	if root := e.root(); root != c.Root {
		return nil, damaged("the stored tree of %d entries has root %s, its signed checkpoint says %s", c.Size, root, c.Root)
	}
	return e, nil
}

// damaged is the error of a database that contradicts its own signed checkpoint.
func damaged(format string, a ...any) error {
	return fault.Wrap(fault.Internal, "record_damaged",
		"the record's database does not match its signed checkpoint; nothing is added to it until it is restored",
		fmt.Errorf(format, a...))
}

// Run sequences about once a second, and soon after each Wake, until ctx ends;
// then it flushes what is left. While the Store fails it tries again at
// growing intervals, and logs each different error once. It returns the error
// of the final flush.
func (l *Log) Run(ctx context.Context) error {
	var said string
	pause := interval
	for {
		switch err := l.drain(ctx); {
		case ctx.Err() != nil:
			return l.flush(ctx)
		case err != nil:
			if err.Error() != said {
				said = err.Error()
				l.logger().Error("the audit log cannot grow", "error", err)
			}
			pause = min(2*pause, longestPause)
		case said != "":
			l.logger().Info("the audit log grows again")
			said, pause = "", interval
		}
		select {
		case <-ctx.Done():
			return l.flush(ctx)
		case <-l.waker():
		case <-time.After(pause):
		}
	}
}

// Wake asks a Run in this process to sequence now instead of within a second.
// It is for callers who wait for a proof, not for each event: every step costs
// a signature and a commit.
func (l *Log) Wake() {
	select {
	case l.waker() <- struct{}{}:
	default: // awake already
	}
}

// drain sequences until nothing that was committed before the call waits.
func (l *Log) drain(ctx context.Context) error {
	for {
		n, err := l.Sequence(ctx)
		if err != nil || n < batch {
			return err
		}
	}
}

func (l *Log) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	return l.drain(ctx)
}

func (l *Log) waker() chan struct{} {
	l.once.Do(func() { l.wake = make(chan struct{}, 1) })
	return l.wake
}

func (l *Log) now() time.Time {
	if l.Now == nil {
		return time.Now()
	}
	return l.Now()
}

func (l *Log) logger() *slog.Logger {
	if l.Logger == nil {
		return slog.Default()
	}
	return l.Logger
}

// age returns how long before now the leaf's event happened.
func age(leaf []byte, now time.Time) time.Duration {
	var f leafFields
	if err := f.read(leaf); err != nil {
		return 0
	}
	return max(0, now.Sub(f.at))
}

// Checkpoint returns the newest signed checkpoint, or an error of kind NotFound
// while the log is empty.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) {
	signed, err := l.Store.Checkpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	if len(signed) == 0 {
		return nil, empty()
	}
	return signed, nil
}

func empty() error { return fault.New(fault.NotFound, "log_empty", "the log has no entries yet") }
