package status

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Paths of the door, after the address that certificates name.
const (
	ListPath   = "/crl/"
	listSuffix = ".crl"
	AnswerPath = "/ocsp"
)

// maxAge bounds how long caches on the way may keep what is not known to change:
// so long a revocation may take to reach who asks through one.
const maxAge = time.Minute

// ListURL is where the list of an issuer's shard is found, with {shard} in place of its number.
func ListURL(base, issuer string) string { return base + ListPath + issuer + "/{shard}" + listSuffix }

// WholeListURL is where the list of everything that an issuer has revoked is found.
func WholeListURL(base, issuer string) string { return base + ListPath + issuer + listSuffix }

// Serves reports whether the door knows what to do with that path.
func Serves(path string) bool {
	return strings.HasPrefix(path, ListPath) || path == AnswerPath || strings.HasPrefix(path, AnswerPath+"/")
}

// Door serves boards, one for each issuer. The first answers OCSP.
type Door struct{ Boards []*Board }

// ServeHTTP answers one request. It must see the path as it was sent: base64
// has slashes in it, two in a row too, which a ServeMux would take out.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	r.Header.Del("If-Modified-Since") // two lists may be of the same second; tags tell them apart
	if strings.HasPrefix(r.URL.Path, ListPath) {
		d.list(w, r)
		return
	}
	d.ocsp(w, r)
}

// list serves a revocation list (RFC 5280, Section 4.2.1.13; RFC 2585, Section 4.2).
func (d *Door) list(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "lists are read with GET", "GET, HEAD")
		return
	}
	b, place := d.find(strings.TrimPrefix(r.URL.Path, ListPath))
	if b == nil {
		refuse(w, http.StatusNotFound, "no such list", "")
		return
	}
	s, now := b.ask(r.Context(), place), b.Now()
	if !s.servable(now) {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "the list is not complete, or its time is over, and another cannot be made just now", "")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/pkix-crl")
	h.Set("ETag", s.etag)
	cacheable(h, s.list.NextUpdate, now)
	http.ServeContent(w, r, "", s.list.ThisUpdate, bytes.NewReader(s.list.DER))
}

// find returns the board and the place of a list.
func (d *Door) find(path string) (*Board, int) {
	path, ok := strings.CutSuffix(path, listSuffix)
	issuer, number, sharded := strings.Cut(path, "/")
	if !ok {
		return nil, 0
	}
	for _, b := range d.Boards {
		if b.name != issuer || sharded != (b.Shards > 0) {
			continue
		}
		if !sharded {
			return b, 0
		}
		n, err := strconv.Atoi(number)
		if err != nil || strconv.Itoa(n) != number || b.index(n) < 0 {
			return nil, 0
		}
		return b, n
	}
	return nil, 0
}

// ocsp answers by POST (RFC 6960, Appendix A.1) and by GET (RFC 5019, Section 5).
func (d *Door) ocsp(w http.ResponseWriter, r *http.Request) {
	var request []byte
	var err error
	get := false
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		get = true
		request, err = decodePath(strings.TrimPrefix(r.URL.EscapedPath(), AnswerPath))
	case http.MethodPost:
		request, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest+1))
	default:
		refuse(w, http.StatusMethodNotAllowed, "OCSP is asked with GET or POST", "GET, HEAD, POST")
		return
	}
	if get && err == nil && len(request) == 0 {
		refuse(w, http.StatusBadRequest, "this is an OCSP responder (RFC 6960): POST a request, or put it in the path in base64", "")
		return
	}
	b := d.Boards[0]
	a := failed(MalformedRequest, "malformed")
	if err == nil {
		a = b.answer(r.Context(), request)
	}
	if b.Answered != nil {
		b.Answered(a.what)
	}
	a.write(w, r, get, b.Now())
}

// write sends an answer. What says how a certificate stands may be kept for a while, if it was asked by GET.
func (a *reply) write(w http.ResponseWriter, r *http.Request, get bool, now time.Time) {
	h := w.Header()
	h.Set("Content-Type", "application/ocsp-response")
	if !get || a.until.IsZero() || a.what == "unknown" {
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Length", strconv.Itoa(len(a.der)))
		w.Write(a.der)
		return
	}
	h.Set("ETag", a.etag)
	h.Set("Expires", a.until.Format(http.TimeFormat))
	cacheable(h, a.until, now)
	http.ServeContent(w, r, "", a.this, bytes.NewReader(a.der))
}

// cacheable says how long an answer may be kept that is good until then.
func cacheable(h http.Header, until, now time.Time) {
	age := max(0, min(maxAge, until.Sub(now)))
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d, no-transform, must-revalidate", int(age/time.Second)))
}

func refuse(w http.ResponseWriter, status int, says, allow string) {
	w.Header().Set("Cache-Control", "no-store")
	if allow != "" {
		w.Header().Set("Allow", allow)
	}
	http.Error(w, says, status)
}
