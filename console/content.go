package console

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// content is a call's body with a sum over it. Whoever agrees to what another
// operator asks for agrees to what was sent along: the same words with another file are another matter.
type content struct {
	io.ReadCloser
	sum     hash.Hash
	read    int64
	whole   bool   // it has been read to its end
	agreed  string // what another operator has agreed to; empty: anything
	changed bool   // that was something else
}

// nothing is the digest of nothing.
const nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// watchContent puts the sum between the call and its body.
func (call *call) watchContent() {
	call.content = &content{ReadCloser: call.Body, sum: sha256.New()}
	call.Body = call.content
}

// Read implements io.Reader. Where something else ends than was agreed to, that is an error.
func (c *content) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.sum.Write(b[:n])
	c.read += int64(n)
	if err != io.EOF {
		return n, err
	}
	c.whole = true
	if c.changed = c.agreed != "" && c.agreed != c.digest(); c.changed {
		return n, errContentChanged
	}
	return n, err
}

func (c *content) digest() string { return "sha256:" + hex.EncodeToString(c.sum.Sum(nil)) }

// known is the digest if all has been read, and was something; otherwise empty.
func (c *content) known() string {
	if !c.whole || c.read == 0 {
		return ""
	}
	return c.digest()
}

// rest reads what nobody has read yet, and returns the digest of all; empty for nothing.
func (c *content) rest(call *call) (string, error) {
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(call.body, c, maxImport)); err != nil {
		return "", badJSON(err)
	}
	return c.known(), nil
}

var errContentChanged = fault.New(fault.Denied, "content_changed", "another operator has agreed to something else than was sent now: send the same, or ask anew")
