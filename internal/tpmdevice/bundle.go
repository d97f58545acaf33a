package tpmdevice

import (
	"bytes"
	"compress/gzip"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The kinds of statement.
var (
	oidCertify = asn1.ObjectIdentifier{2, 23, 133, 20, 1}          // tcg-attest-tpm-certify
	oidQuote   = asn1.ObjectIdentifier{2, 23, 133, 20, 2}          // tcg-attest-tpm-quote
	oidCMW     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35} // id-pe-cmw
)

// eventLogType is the media type of an event log inside a CMW; nobody has
// registered one for TCG logs.
const eventLogType = "application/vnd.hallmark.tcg2-eventlog"

// bundle is an AttestationBundle to be.
type bundle struct {
	certify, quote *statement
	eventLog       []byte
	certs          [][]byte
}

func (b *bundle) der() ([]byte, error) {
	log, err := wrapLog(b.eventLog)
	if err != nil {
		return nil, err
	}
	var out cryptobyte.Builder
	out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
			addStatement(out, oidCertify, b.certify)
			addStatement(out, oidQuote, b.quote)
			if log != "" {
				out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
					out.AddASN1ObjectIdentifier(oidCMW)
					out.AddASN1(casn1.UTF8String, func(out *cryptobyte.Builder) { out.AddBytes([]byte(log)) })
				})
			}
		})
		if len(b.certs) > 0 {
			out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
				for _, certificate := range b.certs {
					out.AddBytes(certificate)
				}
			})
		}
	})
	return out.Bytes()
}

func addStatement(out *cryptobyte.Builder, kind asn1.ObjectIdentifier, s *statement) {
	if s == nil {
		return
	}
	out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1ObjectIdentifier(kind)
		out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
			out.AddASN1OctetString(s.attest)
			out.AddASN1OctetString(s.signature)
			out.AddASN1OctetString(s.about)
		})
	})
}

// wrapLog is an event log as a CMW record in JSON (draft-ietf-rats-msg-wrap),
// packed where that pays, or "" for none.
func wrapLog(log []byte) (string, error) {
	if len(log) == 0 {
		return "", nil
	}
	kind := eventLogType
	if len(log) > 4096 {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(log); err != nil {
			return "", err
		}
		if err := w.Close(); err != nil {
			return "", err
		}
		kind, log = kind+"+gzip", packed.Bytes()
	}
	const evidence = 4 // the indicator bit of Evidence
	return fmt.Sprintf(`[%q,%q,%d]`, kind, base64.RawURLEncoding.EncodeToString(log), evidence), nil
}

// maxEventLog bounds what is read of an event log, in bytes; real ones have tens of thousands.
const maxEventLog = 4 << 20

// EventLog reads the firmware's log of what it measured. path is a file of the
// same format; for the empty one it is where Linux shows the log of the device
// at the TPM's address. A log that the kernel does not show, or not to us, is
// no error, and nil.
func (t *TPM) EventLog(path string) ([]byte, error) {
	if path == "" {
		if isSoftware(t.address) {
			return nil, nil
		}
		path = kernelLog(t.address)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, nil
		}
	}
	log, err := os.ReadFile(path)
	if err == nil && len(log) > maxEventLog {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the event log %s: %w", path, err)
	}
	return log, nil
}

// kernelLog is the log of /dev/tpmN or /dev/tpmrmN.
func kernelLog(device string) string {
	name := filepath.Base(device)
	return "/sys/kernel/security/tpm" + string(name[len(name)-1]) + "/binary_bios_measurements"
}
