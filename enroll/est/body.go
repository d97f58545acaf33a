package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// MaxRequest is the largest body of an enrolment, in bytes as sent: a CSR that
// carries a TPM's event log needs room.
const MaxRequest = 256 << 10

// readRequest returns the DER that an enrolment carries.
func (c *call) readRequest() ([]byte, error) {
	if !isPKCS10(c.r.Header.Get("Content-Type")) {
		return nil, errWrongType
	}
	raw := bodies.Get().(*bytes.Buffer)
	defer release(raw)
	if err := c.readInto(raw, MaxRequest); err != nil {
		return nil, err
	}
	return decodeBody(raw.Bytes())
}

// bodies are buffers for requests as sent: what is decoded from one keeps nothing of it.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// release gives a buffer back, unless an unusually large request has blown it up.
func release(b *bytes.Buffer) {
	if b.Cap() <= 128<<10 {
		b.Reset()
		bodies.Put(b)
	}
}

// readAll returns the body, of at most limit bytes.
func (c *call) readAll(limit int64) ([]byte, error) {
	var raw bytes.Buffer
	if err := c.readInto(&raw, limit); err != nil {
		return nil, err
	}
	return raw.Bytes(), nil
}

func (c *call) readInto(raw *bytes.Buffer, limit int64) error {
	if c.r.ContentLength > limit {
		return errTooLarge
	}
	// Room for what was announced at once, but not on a stranger's word for more than an ordinary event log takes.
	raw.Grow(int(min(max(c.r.ContentLength, 0), 64<<10)) + bytes.MinRead)
	_, err := raw.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return fault.Wrap(fault.Malformed, "body_incomplete", "the request body did not arrive completely", err)
	}
	return nil
}

// isPKCS10 accepts the type of RFC 7030, Section 4.2.1, with any parameters,
// and none at all: some clients send none.
func isPKCS10(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/pkcs10"
}

// decodeBody turns a request body into DER. It is base64 whatever
// Content-Transfer-Encoding says (RFC 8951, Section 3.1), wrapped or not. PEM
// armour around it, which scripts send, is taken off; its line ends may be lost,
// as curl loses them.
func decodeBody(raw []byte) ([]byte, error) {
	text := bytes.TrimSpace(raw)
	if armoured, ok := bytes.CutPrefix(text, []byte("-----BEGIN ")); ok {
		_, armoured, opened := bytes.Cut(armoured, []byte("-----"))
		inner, _, closed := bytes.Cut(armoured, []byte("-----END "))
		if !opened || !closed {
			return nil, fault.New(fault.Malformed, "pem_malformed", "the PEM armour around the request is incomplete")
		}
		text = inner
	}
	if bytes.IndexByte(text, ' ') >= 0 || bytes.IndexByte(text, '\t') >= 0 { // line ends are the decoder's to skip
		text = bytes.Join(bytes.Fields(text), nil)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fault.New(fault.Malformed, "body_empty", "the request has no body; send a base64 PKCS#10 request")
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(der, text)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "base64_malformed", "the request body is not base64", err)
	}
	return der[:n], nil
}

// wrapped reports whether this client needs base64 in lines. strongSwan before
// 5.9.11 cannot read a line break inside, so one line is the default; libest
// decodes through OpenSSL and loses lines of more than 1 kB.
func (c *call) wrapped() bool {
	return c.profile.Wrap || strings.HasPrefix(c.r.UserAgent(), "libest")
}

// encodeBody is base64 in one line, or in lines of 64, with a line end at the
// very end in both cases: libest needs that one.
func encodeBody(der []byte, wrap bool) []byte {
	line := base64.StdEncoding.EncodedLen(len(der))
	out := make([]byte, 0, line+line/64+2)
	out = base64.StdEncoding.AppendEncode(out, der)
	if !wrap {
		return append(out, '\n')
	}
	lines := make([]byte, 0, cap(out))
	for len(out) > 0 {
		n := min(64, len(out))
		lines = append(append(lines, out[:n]...), '\n')
		out = out[n:]
	}
	return lines
}
