package est

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The media types of RFC 7030, Sections 4.1.3, 4.2.3 and 4.5.2. libest compares
// the second by its first characters, so it is spelt as the RFC spells it.
const (
	typeCACerts  = "application/pkcs7-mime"
	typeCert     = "application/pkcs7-mime; smime-type=certs-only"
	typeCSRAttrs = "application/csrattrs"
	typePKCS8    = "application/pkcs8"
)

// Sizes that net/http's and clients' buffers dictate: a body of up to wholeBody
// leaves net/http in one piece together with its header, and one TLS record
// holds oneRecord bytes.
const (
	wholeBody = 3500
	oneRecord = 16 << 10
)

// send answers 200 with DER as base64 (RFC 8951, Section 3.1).
func (c *call) send(contentType string, der []byte) {
	c.w.Header().Set("Content-Transfer-Encoding", "base64") // obsolete, but older clients look for it
	c.write(http.StatusOK, contentType, encodeBody(der, c.wrapped()))
}

// write sends the whole answer. Its length is always declared and it is never
// chunked: strongSwan and libest read nothing else.
func (c *call) write(status int, contentType string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.status = status
	if c.r.ProtoMajor == 1 && len(body) > wholeBody && len(body)+1024 < oneRecord && c.writeAtOnce(status, body) {
		return
	}
	c.w.WriteHeader(status)
	c.w.Write(body) // if the client is gone there is nobody left to tell
}

// writeAtOnce sends header and body as one TLS record and ends the connection.
// strongSwan 5.9.8 reads an answer in at most two records, and net/http cuts
// larger ones into more. It reports whether it has answered.
func (c *call) writeAtOnce(status int, body []byte) bool {
	connection, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return false
	}
	defer connection.Close()
	h := c.w.Header()
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	var whole bytes.Buffer
	fmt.Fprintf(&whole, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	h.Write(&whole)
	whole.WriteString("\r\n")
	if c.r.Method != http.MethodHead {
		whole.Write(body)
	}
	connection.SetWriteDeadline(time.Now().Add(30 * time.Second))
	connection.Write(whole.Bytes())
	return true
}
