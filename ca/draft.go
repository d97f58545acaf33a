package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Draft is a certificate before its signature: what was granted, to the letter.
type Draft struct {
	TBS []byte // the TBSCertificate (RFC 5280, Section 4.1), DER, for an issuer that signs it as it is

	Serial              *big.Int
	NotBefore, NotAfter time.Time
	CSR                 *CSR
	profile             *mould
	device              string
	names               *Names
	policies            []byte // value of certificatePolicies, DER; nil for most
	shortLived          bool   // carries noRevAvail
}

// mould is a profile made ready for one issuer: what all its certificates have in common, encoded once.
type mould struct {
	Profile
	issuer     *x509.Certificate
	signing    signing
	lint       *linter
	usages     []byte // extKeyUsage extension
	authority  []byte // authorityKeyIdentifier extension
	access     []byte // authorityInfoAccess of certificates that can be revoked; nil if there are no URLs
	accessOnly []byte // authorityInfoAccess of short-lived ones: without OCSP
}

// Object identifiers of extensions (RFC 5280, Section 4.2; RFC 9608).
var (
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidNoRevAvail       = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidInfoAccess       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP             = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// newMould prepares a checked profile for an issuer.
func newMould(p Profile, issuer *x509.Certificate) (*mould, error) {
	s, err := signingWith(issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	m := &mould{Profile: p, issuer: issuer, signing: s}
	m.usages = encodeExtension(oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, usage := range p.ExtKeyUsages {
				b.AddASN1ObjectIdentifier(usage)
			}
		})
	})
	m.authority = encodeExtension(oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.Tag(0x80), func(b *cryptobyte.Builder) { b.AddBytes(issuer.SubjectKeyId) })
		})
	})
	m.access = encodeAccess(p.OCSPURL, p.IssuerURL)
	m.accessOnly = encodeAccess("", p.IssuerURL)
	return m, nil
}

// draft lays out the certificate for a device over the key of a request.
func (m *mould) draft(o Order, now time.Time, lifetime time.Duration) (*Draft, error) {
	names, err := m.Names(o.Device)
	if err != nil {
		return nil, err
	}
	return m.lay(&Draft{CSR: o.CSR, device: o.Device.ID, names: names, policies: m.policies(&o.Attested)}, now, lifetime)
}

// lay completes a draft that has key, names and policies.
func (m *mould) lay(f *Draft, now time.Time, lifetime time.Duration) (_ *Draft, err error) {
	now = now.UTC().Truncate(time.Second)
	f.Serial, f.profile = newSerial(), m
	f.NotBefore, f.NotAfter = later(now.Add(-m.Backdate), m.issuer.NotBefore), earlier(now.Add(lifetime), m.issuer.NotAfter)
	f.shortLived = f.NotAfter.Sub(now) <= m.NoRevAvail
	f.TBS, err = f.encode()
	return f, err
}

// newSerial returns 128 random bits (RFC 5280, Section 4.1.2.2: positive and at most 20 octets; here at most 17).
func newSerial() *big.Int {
	var b [16]byte
	for {
		rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n
		}
	}
}

// SerialText writes a serial number as it stands in the store, in paths and in
// logs: lower-case hex, whole octets, no separators.
func SerialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// encode writes TBSCertificate (RFC 5280, Section 4.1.2), version 3.
func (f *Draft) encode() ([]byte, error) {
	m := f.profile
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(f.Serial)
		b.AddBytes(m.signing.identifier)
		b.AddBytes(m.issuer.RawSubject)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, f.NotBefore)
			addTime(b, f.NotAfter)
		})
		b.AddBytes(f.names.subject)
		b.AddBytes(f.CSR.SPKI)
		b.AddASN1(explicit3, func(b *cryptobyte.Builder) { b.AddASN1(casn1.SEQUENCE, f.addExtensions) })
	})
	return b.Bytes()
}

// The extensions that every device certificate has, encoded: an end entity
// (basicConstraints critical and empty) that signs (keyUsage critical,
// digitalSignature alone), and noRevAvail, whose value is NULL (RFC 9608, Section 2).
var (
	extEndEntity = encodeExtension(oidBasicConstraints, true, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(*cryptobyte.Builder) {})
	})
	extSigns = encodeExtension(oidKeyUsage, true, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes([]byte{7, 0x80}) })
	})
	extNoRevAvail = encodeExtension(oidNoRevAvail, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
)

func (f *Draft) addExtensions(b *cryptobyte.Builder) {
	m := f.profile
	b.AddBytes(extEndEntity)
	b.AddBytes(extSigns)
	b.AddBytes(m.usages)
	b.AddBytes(encodeExtension(oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID(f.CSR.SPKI)) }))
	b.AddBytes(m.authority)
	b.AddBytes(encodeExtension(oidSubjectAltName, f.names.nameless(), func(b *cryptobyte.Builder) { b.AddBytes(f.names.san) }))
	if f.policies != nil {
		b.AddBytes(encodeExtension(oidPolicies, false, func(b *cryptobyte.Builder) { b.AddBytes(f.policies) }))
	}
	if f.shortLived {
		// RFC 9608, Section 4: never together with CRL distribution points or OCSP.
		b.AddBytes(m.accessOnly)
		b.AddBytes(extNoRevAvail)
		return
	}
	b.AddBytes(m.access)
	b.AddBytes(encodeCRLPoint(m.crlURL(f.Serial)))
}

// crlURL is the shard of the revocation list that will name the certificate if
// it is revoked. It follows from the serial number alone, so it never moves.
func (p *Profile) crlURL(serial *big.Int) string {
	return strings.ReplaceAll(p.CRLURL, "{shard}", strconv.Itoa(CRLShard(serial, p.CRLShards)))
}

// CRLShard returns which of n shards a certificate belongs to, from 0.
func CRLShard(serial *big.Int, n int) int {
	sum := sha256.Sum256(serial.Bytes())
	return int(binary.BigEndian.Uint64(sum[:8]) % uint64(n))
}

// encodeCRLPoint is one DistributionPoint with a fullName (RFC 5280, Section 4.2.1.13).
func encodeCRLPoint(url string) []byte {
	return encodeExtension(oidCRLPoints, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
					b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
						b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
					})
				})
			})
		})
	})
}

// encodeAccess is authorityInfoAccess (RFC 5280, Section 4.2.2.1), nil without URLs.
func encodeAccess(ocsp, issuer string) []byte {
	if ocsp == "" && issuer == "" {
		return nil
	}
	return encodeExtension(oidInfoAccess, false, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addAccess(b, oidOCSP, ocsp)
			addAccess(b, oidCAIssuers, issuer)
		})
	})
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, url string) {
	if url == "" {
		return
	}
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(method)
		b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
	})
}

// encodeExtension is SEQUENCE { oid, critical if true, OCTET STRING { value } }.
func encodeExtension(oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, 128))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(casn1.OCTET_STRING, value)
	})
	return b.BytesOrPanic()
}

// addTime writes UTCTime up to 2049 and GeneralizedTime after (RFC 5280, Section 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

// keyID is a subject key identifier: the first 160 bits of SHA-256 over the
// bits of the key (RFC 7093, Section 2, method 1).
func keyID(spki []byte) []byte {
	input := cryptobyte.String(spki)
	var info, algorithm, bits cryptobyte.String
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !info.ReadASN1(&algorithm, casn1.SEQUENCE) ||
		!info.ReadASN1(&bits, casn1.BIT_STRING) || len(bits) < 1 {
		panic(fmt.Sprintf("ca: key identifier of %d bytes that are no SubjectPublicKeyInfo", len(spki))) // parsed before
	}
	sum := sha256.Sum256(bits[1:]) // without the count of unused bits
	return sum[:20]
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
