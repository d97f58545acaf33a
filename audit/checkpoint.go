package audit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the log's signed word on how long it is and what it holds
// (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string    // name of the log; also the name of the key that signs
	Size   int64     // number of entries
	Root   tlog.Hash // RFC 6962 root over them
}

// CheckpointType is the media type of a checkpoint (C2SP tlog-tiles, Checkpoints).
const CheckpointType = "text/plain; charset=utf-8"

// maxCheckpoint bounds the bytes of a checkpoint that is read.
const maxCheckpoint = 16 << 10

// NewKey makes an Ed25519 key for the log called origin, such as
// "ca.example.com/log": no white space and no plus sign. skey is the secret
// that note.NewSigner takes; vkey is what log.pub holds and ReadKey reads.
func NewKey(origin string) (skey, vkey string, err error) {
	skey, vkey, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", "", fmt.Errorf("making the log's key: %w", err)
	}
	if _, err := note.NewVerifier(vkey); err != nil {
		return "", "", fmt.Errorf("making the log's key: %q cannot name a log: white space and + are not allowed", origin)
	}
	return skey, vkey, nil
}

// ReadSecret reads the secret half of a log's key as NewKey made it. The error
// does not repeat it.
func ReadSecret(text []byte) (note.Signer, error) {
	signer, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, errors.New("not a log's secret key")
	}
	return signer, nil
}

// Keys returns the keys as Verify takes them.
func Keys(keys ...note.Verifier) note.Verifiers { return note.VerifierList(keys...) }

// ReadKey reads the content of log.pub: one verifier key of C2SP signed-note.
func ReadKey(text []byte) (note.Verifier, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("not a log's public key (want one line NAME+HASH+KEY): %w", err)
	}
	return v, nil
}

// OpenCheckpoint checks the signature on a signed checkpoint and reads it. The
// error says in plain words what is wrong with it.
func OpenCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, errors.New("too long for a checkpoint")
	}
	n, err := note.Open(signed, keys)
	if err != nil {
		return Checkpoint{}, explain(err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	// A key speaks for the log of its own name only (C2SP tlog-checkpoint, Signatures).
	for _, s := range n.Sigs {
		if s.Name == c.Origin {
			return c, nil
		}
	}
	return Checkpoint{}, fmt.Errorf("foreign checkpoint: it is of the log %q but signed by %q", c.Origin, n.Sigs[0].Name)
}

// explain turns the errors of note.Open into a sentence for an auditor.
func explain(err error) error {
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown) && len(unknown.Note.UnverifiedSigs) > 0:
		s := unknown.Note.UnverifiedSigs[0]
		return fmt.Errorf("signed by %s+%08x, which is not the key given", s.Name, s.Hash)
	case errors.As(err, &invalid):
		return fmt.Errorf("the signature of %s+%08x does not fit the text: the checkpoint was changed", invalid.Name, invalid.Hash)
	}
	return fmt.Errorf("not a signed checkpoint: %w", err)
}

// parseCheckpoint reads the text of a checkpoint (C2SP tlog-checkpoint, Note
// text). Extension lines are allowed and ignored.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n") // the last is empty: the text ends in a newline
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, errors.New("not a checkpoint: want lines of origin, size and root")
	}
	for _, extension := range lines[3 : len(lines)-1] {
		if extension == "" {
			return Checkpoint{}, errors.New("not a checkpoint: empty extension line")
		}
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("not a checkpoint: tree size %.40q", lines[1])
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("not a checkpoint: root: %w", err)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// sign returns the checkpoint as a signed note.
func (c Checkpoint) sign(key note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
	signed, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint of %d entries: %w", c.Size, err)
	}
	return signed, nil
}

// parseHash reads a hash in the one base64 spelling that it has.
func parseHash(s string) (tlog.Hash, error) {
	h, err := tlog.ParseHash(s)
	if err != nil || h.String() != s {
		return tlog.Hash{}, fmt.Errorf("%.60q is not the base64 of 32 bytes", s)
	}
	return h, nil
}
