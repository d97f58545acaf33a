package est_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/cms"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

func parse(t *testing.T, body string) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(body))
	if err != nil {
		t.Fatal(err)
	}
	found, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// workshop is a directory where other people's tools are run.
type workshop struct {
	t   *testing.T
	dir string
	env []string
}

func newWorkshop(t *testing.T, env ...string) *workshop {
	return &workshop{t: t, dir: t.TempDir(), env: append(os.Environ(), env...)}
}

// run runs a tool, keeps its standard output in a file if one is named, and
// fails the test if the tool fails.
func (w *workshop) run(out, name string, args ...string) {
	w.t.Helper()
	c := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	c.Dir, c.Env, c.Stdout, c.Stderr = w.dir, w.env, &stdout, &stderr
	if err := c.Run(); err != nil {
		w.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	if out != "" {
		if err := os.WriteFile(filepath.Join(w.dir, out), stdout.Bytes(), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *workshop) certificate(file string) *x509.Certificate {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, file))
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		w.t.Fatalf("%s: no PEM in %q", file, text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// strongSwan returns a workshop whose pki speaks up to that version of TLS.
func strongSwan(t *testing.T, version string) *workshop {
	t.Helper()
	w := newWorkshop(t)
	conf := filepath.Join(w.dir, "strongswan.conf")
	if err := os.WriteFile(conf, []byte("pki {\n  tls {\n    version_max = "+version+"\n  }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "STRONGSWAN_CONF="+conf)
	return w
}

// The first enrolment, the renewal and the authority's certificates with
// strongSwan's pki, which cannot say labels but appends the well-known path.
func TestStrongSwan(t *testing.T) {
	housetest.Tool(t, "pki", "strongswan-pki")
	h := house(t, "ss-1")
	token := h.Token("--device", "ss-1", "--uses", "10")
	issuing := filepath.Join(h.Dir, "ca", "issuing.crt")
	for _, version := range []string{"1.2", "1.3"} {
		for _, label := range []string{"", "/factory"} {
			t.Run(version+label, func(t *testing.T) {
				w, url := strongSwan(t, version), h.URL+label
				w.run("", "pki", "--estca", "--url", url, "--cacert", h.CAFile(), "--caout", "ca.pem", "--outform", "pem")
				if w.certificate("ca.pem").Subject.CommonName == "" || w.certificate("ca-1.pem").Subject.CommonName == "" {
					t.Error("estca: want the root and the issuing authority")
				}
				w.run("key.pem", "pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
				w.run("req.pem", "pki", "--req", "--in", "key.pem", "--type", "priv", "--dn", "serialNumber=ss-1", "--outform", "pem")
				w.run("cert.pem", "pki", "--est", "--url", url, "--in", "req.pem", "--cacert", h.CAFile(), "--cacert", issuing,
					"--userpass", "ss-1:"+token, "--outform", "pem")
				first := w.certificate("cert.pem")

				w.run("key2.pem", "pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
				// pki writes the subject anew; it has to be that of the certificate.
				dn := "serialNumber=ss-1"
				if label != "" {
					dn = "O=Example Fleet, serialNumber=ss-1"
				}
				w.run("req2.pem", "pki", "--req", "--in", "key2.pem", "--type", "priv", "--dn", dn, "--outform", "pem")
				w.run("cert2.pem", "pki", "--est", "--url", url, "--in", "req2.pem", "--cacert", h.CAFile(), "--cacert", issuing,
					"--cert", "cert.pem", "--key", "key.pem", "--outform", "pem")
				second := w.certificate("cert2.pem")
				if first.Subject.SerialNumber != "ss-1" || second.Subject.String() != first.Subject.String() || first.SerialNumber.Cmp(second.SerialNumber) == 0 {
					t.Errorf("enrolled %s (%x), renewed %s (%x)", first.Subject, first.SerialNumber, second.Subject, second.SerialNumber)
				}
			})
		}
	}
}

// strongSwan asks again after 202 until an operator has said yes.
func TestStrongSwanWaits(t *testing.T) {
	housetest.Tool(t, "pki", "strongswan-pki")
	h := house(t, "ss-1")
	hold(t, h, "device")
	w := strongSwan(t, "1.2")
	w.run("key.pem", "pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
	w.run("req.pem", "pki", "--req", "--in", "key.pem", "--type", "priv", "--dn", "serialNumber=ss-1", "--outform", "pem")
	approved := make(chan struct{})
	go func() {
		defer close(approved)
		approve(t, h)
	}()
	w.run("cert.pem", "pki", "--est", "--url", h.URL, "--in", "req.pem", "--cacert", h.CAFile(), "--cacert", filepath.Join(h.Dir, "ca", "issuing.crt"),
		"--userpass", "ss-1:"+h.Token("--device", "ss-1"), "--interval", "1", "--maxpolltime", "50", "--outform", "pem")
	<-approved
	if got := w.certificate("cert.pem").Subject.SerialNumber; got != "ss-1" {
		t.Errorf("got %q", got)
	}
}

// The recipe of the documentation: curl and openssl are an EST client.
func TestCurlAndOpenSSL(t *testing.T) {
	housetest.Tool(t, "curl", "curl")
	housetest.Tool(t, "openssl", "openssl")
	h := house(t, "curl-1")
	token := h.Token("--device", "curl-1", "--uses", "10")
	const recipe = `set -eu
curl -fsS --tls-max $TLS --cacert $CA $EST/cacerts | base64 -d | openssl pkcs7 -inform DER -print_certs -out ca.pem
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -subj /serialNumber=curl-1 -out req.pem
eval "$ENCODE" <req.pem >req.b64
curl -fsS --tls-max $TLS --cacert $CA --user curl-1:$TOKEN $AUTH -H 'Content-Type: application/pkcs10' \
  --data-binary @req.b64 $EST/simpleenroll >cert.b64
$DECODE cert.b64 | openssl pkcs7 -inform DER -print_certs -out cert.pem
openssl verify -x509_strict -CAfile ca.pem cert.pem
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key2.pem -subj /serialNumber=curl-1 -out req2.pem
eval "$ENCODE" <req2.pem >req2.b64
curl -fsS --tls-max $TLS --cacert $CA --cert cert.pem --key key.pem -H 'Content-Type: application/pkcs10' \
  --data-binary @req2.b64 $EST/simplereenroll | $DECODE | openssl pkcs7 -inform DER -print_certs -out cert2.pem
openssl verify -x509_strict -CAfile ca.pem cert2.pem
`
	for name, story := range map[string][]string{
		"TLS 1.3, one line":         {"TLS=1.3", "EST=" + h.URL + "/.well-known/est", "ENCODE=openssl req -outform DER | base64 -w0", "DECODE=base64 -d", "AUTH="},
		"TLS 1.2, lines":            {"TLS=1.2", "EST=" + h.URL + "/.well-known/est", "ENCODE=openssl req -outform DER | openssl base64", "DECODE=openssl base64 -d -A -in", "AUTH="},
		"PEM":                       {"TLS=1.3", "EST=" + h.URL + "/device/.well-known/est", "ENCODE=cat", "DECODE=base64 -d", "AUTH="},
		"asked for proof":           {"TLS=1.2", "EST=" + h.URL + "/.well-known/est/device", "ENCODE=cat", "DECODE=base64 -d", "AUTH=--anyauth"},
		"openssl wants short lines": {"TLS=1.3", "EST=" + h.URL + "/.well-known/est/wrapped", "ENCODE=openssl req -outform DER | openssl base64", "DECODE=openssl base64 -d -in", "AUTH="},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop(t, append(story, "CA="+h.CAFile(), "TOKEN="+token)...)
			script := recipe
			if strings.Contains(strings.Join(story, " "), "-in") { // openssl reads a named file
				script = strings.ReplaceAll(script, "| $DECODE |", ">cert2.b64; $DECODE cert2.b64 |")
			}
			w.run("", "sh", "-c", script)
			if got := w.certificate("cert2.pem").Subject.SerialNumber; got != "curl-1" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// strongSwan reads an answer in two TLS records at most; what goes out in one
// piece it reads whatever the number of authorities.
func TestStrongSwanReadsManyAuthorities(t *testing.T) {
	housetest.Tool(t, "pki", "strongswan-pki")
	for _, n := range []int{7, 8, 12, 20} {
		d, w := open(t, n, nil), strongSwan(t, "1.2")
		server := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw})
		if err := os.WriteFile(filepath.Join(w.dir, "server.pem"), server, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			w.run("", "pki", "--estca", "--url", d.URL, "--cacert", "server.pem", "--caout", "ca.pem", "--outform", "pem", "--force")
		}
	}
}

// What docs/est-clients.md tells people to type works as it stands.
func TestDocumentedRecipes(t *testing.T) {
	for name, debianPackage := range map[string]string{"pki": "strongswan-pki", "curl": "curl", "openssl": "openssl"} {
		housetest.Tool(t, name, debianPackage)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "est-clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	recipes := strings.Split(string(text), "```sh\n")[1:]
	if len(recipes) != 3 {
		t.Fatalf("%d recipes in the document", len(recipes))
	}
	h := house(t, "doc-1")
	path := filepath.Dir(housetest.Binary(t, "hallmark-device")) + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, recipe := range recipes {
		recipe, _, _ = strings.Cut(recipe, "```")
		w := newWorkshop(t, "PATH="+path, "URL="+h.URL, "CA="+h.CAFile(), "ID=doc-1", "TOKEN="+h.Token("--device", "doc-1"))
		w.run("", "sh", "-euc", recipe)
	}
}
