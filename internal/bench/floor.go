package main

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// floor is the least that an EST server has to do: TLS, base64, PKCS#10 with
// its signature, one signature of its own, and a disk that has it all before
// the answer leaves. It checks no token, knows no device, asks no policy and
// records nothing but the certificate.
type floor struct {
	key      crypto.Signer
	issuer   *x509.Certificate
	own      *x509.CertPool // for renewals
	makers   *x509.CertPool // for factory certificates
	log      *appender
	noVerify bool // sign without x509.CreateCertificate, which verifies what it signed
}

// serveFloor runs the floor until it is killed. It writes its root to dir/root.crt.
func serveFloor(addr, dir, makerFile string, noVerify bool) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := newCA("Floor Root", nil)
	if err != nil {
		return err
	}
	issuing, err := newCA("Floor Issuing CA", root)
	if err != nil {
		return err
	}
	serverCert, err := issuing.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return err
	}
	makers, err := os.ReadFile(makerFile)
	if err != nil {
		return err
	}
	f := &floor{key: issuing.key, issuer: issuing.cert, noVerify: noVerify,
		own: x509.NewCertPool(), makers: x509.NewCertPool()}
	f.own.AddCert(issuing.cert)
	f.makers.AppendCertsFromPEM(makers)
	if f.log, err = newAppender(filepath.Join(dir, "floor.log")); err != nil {
		return err
	}
	if err := root.writePEM(filepath.Join(dir, "root.crt")); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /.well-known/est/simpleenroll", f.enroll)
	mux.HandleFunc("POST /.well-known/est/simplereenroll", f.reenroll)
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{*serverCert},
		ClientAuth:   tls.RequestClientCert, // demanded by reenroll alone, as EST servers have to
	}}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return server.ServeTLS(l, "", "")
}

func (f *floor) enroll(w http.ResponseWriter, r *http.Request) {
	if _, password, ok := r.BasicAuth(); ok && password != "" {
		f.answer(w, r)
		return
	}
	f.withCertificate(w, r, f.makers)
}

func (f *floor) reenroll(w http.ResponseWriter, r *http.Request) { f.withCertificate(w, r, f.own) }

func (f *floor) withCertificate(w http.ResponseWriter, r *http.Request, roots *x509.CertPool) {
	if len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "no certificate", http.StatusUnauthorized)
		return
	}
	anyUse := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if _, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: anyUse}); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	f.answer(w, r)
}

func (f *floor) answer(w http.ResponseWriter, r *http.Request) {
	der, status, err := f.issue(r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	body := answerBody(der)
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

// answerBody is the certificate as EST sends it.
func answerBody(cert []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(nil, certsOnly(cert)), '\n')
}

func (f *floor) issue(r *http.Request) ([]byte, int, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	csr, err := parse(body)
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	cert, err := f.sign(csr)
	if err != nil {
		return nil, http.StatusInternalServerError, err
	}
	return cert, http.StatusInternalServerError, f.log.append(cert) // the status counts only with an error
}

func parse(body []byte) (*x509.CertificateRequest, error) {
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	return csr, csr.CheckSignature()
}

// sign issues a certificate of the size that the product's have.
func (f *floor) sign(csr *x509.CertificateRequest) ([]byte, error) {
	name := &url.URL{Scheme: "spiffe", Host: "hallmark.local", Path: "/device/" + csr.Subject.SerialNumber}
	now := time.Now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      csr.Subject,
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{name},
	}
	if f.noVerify {
		return signUnverified(f.key, f.issuer, template, csr)
	}
	return x509.CreateCertificate(rand.Reader, template, f.issuer, csr.PublicKey, f.key)
}

// appender writes records to a file in groups: whatever waits while the disk
// is busy goes out together, and each caller returns when its own is durable.
type appender struct {
	file *os.File
	in   chan *record
}

type record struct {
	data []byte
	done chan error
}

func newAppender(path string) (*appender, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	a := &appender{file: file, in: make(chan *record, 1024)}
	go a.loop()
	return a, nil
}

func (a *appender) append(data []byte) error {
	r := &record{data: data, done: make(chan error, 1)}
	a.in <- r
	return <-r.done
}

func (a *appender) loop() {
	var buf []byte
	var group []*record
	for r := range a.in {
		group, buf = append(group[:0], r), append(buf[:0], r.data...)
		for more := true; more; {
			select {
			case r := <-a.in:
				group, buf = append(group, r), append(buf, r.data...)
			default:
				more = false
			}
		}
		_, err := a.file.Write(buf)
		err = errors.Join(err, datasync(a.file))
		for _, r := range group {
			r.done <- err
		}
	}
}

// certsOnly wraps one certificate in a degenerate PKCS#7 (RFC 8951, Section 3.1),
// by hand, as nothing else is needed of CMS here.
func certsOnly(cert []byte) []byte {
	signedData := derTLV(0x30,
		[]byte{2, 1, 1},                       // version 1
		[]byte{0x31, 0},                       // digestAlgorithms
		derTLV(0x30, oid(pkcs7Data)),          // encapContentInfo
		derTLV(0xa0, cert), []byte{0x31, 0x0}) // certificates, signerInfos
	return derTLV(0x30, oid(pkcs7SignedData), derTLV(0xa0, signedData))
}

const (
	pkcs7Data       = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	pkcs7SignedData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
)

func oid(value string) []byte { return derTLV(6, []byte(value)) }

// derTLV is one DER element with the given parts as its content.
func derTLV(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := []byte{tag}
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		panic(fmt.Sprintf("a DER element of %d bytes", n)) // certificates are a thousand
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
