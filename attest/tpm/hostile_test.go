package tpm_test

import (
	"crypto/sha1"
	"slices"
	"testing"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// A lie changes an honest exchange before the bundle is sent.
type lie func(t testing.TB, x *exchange)

// certifying replaces the certify statement by a changed one that the
// attestation key signs all the same.
func certifying(change func(x *exchange, a *forge.Attest)) lie {
	return func(t testing.TB, x *exchange) {
		a := x.tpm.Certify(x.extra)
		change(x, a)
		third := x.bundle.Certify.Third
		x.bundle.Certify = must[*forge.Statement](t)(a.SignedBy(x.tpm.AK))
		x.bundle.Certify.Third = third
	}
}

// quoting does the same with the quote.
func quoting(change func(x *exchange, a *forge.Attest)) lie {
	return func(t testing.TB, x *exchange) {
		a := x.tpm.Quote(x.extra, x.question.Bank, x.question.PCRs)
		change(x, a)
		values := x.bundle.Quote.Third
		x.bundle.Quote = must[*forge.Statement](t)(a.SignedBy(x.tpm.AK))
		x.bundle.Quote.Third = values
	}
}

// selecting quotes other registers than those asked for, with their true digest
// and values.
func selecting(bank string, pcrs []int, selections ...forge.Selection) lie {
	return func(t testing.TB, x *exchange) {
		a := x.tpm.Quote(x.extra, bank, pcrs)
		if selections != nil || pcrs == nil {
			a.Selections = selections
		}
		x.bundle.Quote = must[*forge.Statement](t)(a.SignedBy(x.tpm.AK))
		x.bundle.Quote.Third = x.tpm.Values(bank, pcrs)
	}
}

// keyed certifies the request's key with another public area.
func keyed(change func(a *forge.Area)) lie {
	return func(t testing.TB, x *exchange) {
		honest := *x.tpm.Key
		change(&x.tpm.Key.Area)
		certifying(func(x *exchange, a *forge.Attest) { a.ExtraData = x.extra })(t, x)
		x.bundle.Certify.Third = x.tpm.Key.Area.Bytes()
		*x.tpm.Key = honest
	}
}

func plain(change func(x *exchange)) lie { return func(_ testing.TB, x *exchange) { change(x) } }

func stranger(t testing.TB) *forge.TPM {
	return must[*forge.TPM](t)(forge.New("p256", "p256", "p256"))
}

// TestBadEvidence is a row for every lie that a device, or who holds its token,
// can tell about certify and quote, and the reason it is refused with.
func TestBadEvidence(t *testing.T) {
	rows := map[attest.Reason]map[string]lie{
		attest.QuoteStale: {
			"a quote with a nonce of nobody":       quoting(func(_ *exchange, a *forge.Attest) { a.ExtraData = forge.Nonce(32) }),
			"a quote without a nonce":              quoting(func(_ *exchange, a *forge.Attest) { a.ExtraData = nil }),
			"a quote with the constant of a tool":  quoting(func(_ *exchange, a *forge.Attest) { a.ExtraData = []byte{0, 0xff, 0x55, 0xaa} }),
			"a quote with a part of the nonce":     quoting(func(x *exchange, a *forge.Attest) { a.ExtraData = x.extra[:31] }),
			"a quote with more than the nonce":     quoting(func(x *exchange, a *forge.Attest) { a.ExtraData = append(slices.Clone(x.extra), 0) }),
			"a quote of another secret activation": quoting(func(x *exchange, a *forge.Attest) { a.ExtraData = forge.ExtraData(x.challenge.Nonce, make([]byte, 32)) }),
		},
		attest.CertifyStale: {
			"a certify with a nonce of nobody": certifying(func(_ *exchange, a *forge.Attest) { a.ExtraData = forge.Nonce(32) }),
			"a certify without a nonce":        certifying(func(_ *exchange, a *forge.Attest) { a.ExtraData = nil }),
			"the whole bundle of an exchange before": func(t testing.TB, x *exchange) {
				x.bundle = must[*forge.Bundle](t)(x.tpm.Evidence(forge.Nonce(32), "sha256", registers))
			},
			"the constant of a tool where the profile wants the nonce": func(t testing.TB, x *exchange) {
				x.terms.CertifyFresh = true
				certifying(func(_ *exchange, a *forge.Attest) { a.ExtraData = []byte{0, 0xff, 0x55, 0xaa} })(t, x)
			},
		},
		attest.ActivationFailed: {
			"a certify with the nonce alone": certifying(func(x *exchange, a *forge.Attest) { a.ExtraData = x.challenge.Nonce }),
			"a quote with the nonce alone":   quoting(func(x *exchange, a *forge.Attest) { a.ExtraData = x.challenge.Nonce }),
		},
		attest.SignatureInvalid: {
			"a quote by another attestation key": func(t testing.TB, x *exchange) {
				q := must[*forge.Statement](t)(x.tpm.Quote(x.extra, "sha256", registers).SignedBy(stranger(t).AK))
				q.Third, x.bundle.Quote = x.bundle.Quote.Third, q
			},
			"a certify by another attestation key": func(t testing.TB, x *exchange) {
				c := must[*forge.Statement](t)(x.tpm.Certify(x.extra).SignedBy(stranger(t).AK))
				c.Third, x.bundle.Certify = x.bundle.Certify.Third, c
			},
			"a certify by the key itself": func(t testing.TB, x *exchange) {
				c := must[*forge.Statement](t)(x.tpm.Certify(x.extra).SignedBy(x.tpm.Key))
				c.Third, x.bundle.Certify = x.bundle.Certify.Third, c
			},
			"statements of two TPMs": func(t testing.TB, x *exchange) {
				other := must[*forge.Bundle](t)(stranger(t).Evidence(x.extra, "sha256", registers))
				x.bundle.Quote = other.Quote
			},
			"the signature of the other statement": plain(func(x *exchange) { x.bundle.Quote.Signature = x.bundle.Certify.Signature }),
			"a signature of zeros": plain(func(x *exchange) {
				clear(x.bundle.Quote.Signature[4+2 : 4+2+32])
				clear(x.bundle.Quote.Signature[4+2+32+2:])
			}),
			"numbers longer than the curve": plain(func(x *exchange) { x.bundle.Quote.Signature = longSignature(x.bundle.Quote.Signature) }),
		},
		attest.AlgorithmNotAllowed: {
			"a signature over SHA-1": func(t testing.TB, x *exchange) {
				signedAs(t, x, forge.ECDSA, forge.SHA1)
			},
			"a signature over SHA-512":                     func(t testing.TB, x *exchange) { signedAs(t, x, forge.ECDSA, forge.SHA512) },
			"a signature over another hash than the key's": func(t testing.TB, x *exchange) { signedAs(t, x, forge.ECDSA, forge.SHA384) },
			"an ECC key's signature called RSASSA":         func(t testing.TB, x *exchange) { x.bundle.Quote.Signature = rsaLike(forge.RSASSA) },
			"an ECC key's signature called RSAPSS":         func(t testing.TB, x *exchange) { x.bundle.Quote.Signature = rsaLike(forge.RSAPSS) },
			"a signature by HMAC":                          func(t testing.TB, x *exchange) { x.bundle.Quote.Signature[1] = 5 },
			"a signature by ECDAA":                         func(t testing.TB, x *exchange) { x.bundle.Quote.Signature[1] = forge.ECDAA },
			"a signature by nothing":                       plain(func(x *exchange) { x.bundle.Quote.Signature = []byte{0, forge.Null, 0, forge.SHA256, 0, 0} }),
			"a key that is named with SHA-1":               keyed(func(a *forge.Area) { a.NameAlg = forge.SHA1 }),
			"a key on a curve that is not certified":       keyed(func(a *forge.Area) { a.Curve = 5 }),
			"a symmetric key":                              keyed(func(a *forge.Area) { a.Kind = 0x25 }),
		},
		attest.NotTPMGenerated: {
			"a certify without the magic number": certifying(func(_ *exchange, a *forge.Attest) { a.Magic++ }),
			"a quote without the magic number":   quoting(func(_ *exchange, a *forge.Attest) { a.Magic = 0 }),
		},
		attest.WrongAttestType: {
			"a quote for a certify": plain(func(x *exchange) {
				x.bundle.Certify.Attest, x.bundle.Certify.Signature = x.bundle.Quote.Attest, x.bundle.Quote.Signature
			}),
			"a certify for a quote": plain(func(x *exchange) {
				x.bundle.Quote.Attest, x.bundle.Quote.Signature = x.bundle.Certify.Attest, x.bundle.Certify.Signature
			}),
			"a statement about the time":   quoting(func(_ *exchange, a *forge.Attest) { a.Type = 0x8019 }),
			"a statement about a creation": certifying(func(_ *exchange, a *forge.Attest) { a.Type = 0x801a }),
		},
		attest.KeyNotCertified: {
			"no certify": plain(func(x *exchange) { x.bundle.Certify = nil }),
			"a certify of another key": certifying(func(_ *exchange, a *forge.Attest) {
				a.Name = append([]byte{0, forge.SHA256}, forge.Nonce(32)...)
			}),
			"a certify of nothing":           certifying(func(_ *exchange, a *forge.Attest) { a.Name = nil }),
			"a certify with half a name":     certifying(func(_ *exchange, a *forge.Attest) { a.Name = a.Name[:20] }),
			"a certify with another nameAlg": certifying(func(_ *exchange, a *forge.Attest) { a.Name = slices.Clone(a.Name); a.Name[1] = forge.SHA384 }),
			"attributes changed on their way": plain(func(x *exchange) {
				x.bundle.Certify.Third = slices.Clone(x.bundle.Certify.Third)
				x.bundle.Certify.Third[7] ^= 1 << 6
			}),
		},
		attest.KeyAttributes: {
			"a key that is not fixed to its TPM":    keyed(func(a *forge.Area) { a.Attributes &^= forge.FixedTPM }),
			"a key that is not fixed to its parent": keyed(func(a *forge.Area) { a.Attributes &^= forge.FixedParent }),
			"a key that came from outside":          keyed(func(a *forge.Area) { a.Attributes &^= forge.SensitiveDataOrigin }),
			"a key that does not sign":              keyed(func(a *forge.Area) { a.Attributes &^= forge.Sign }),
			"a restricted key":                      keyed(func(a *forge.Area) { a.Attributes |= forge.Restricted }),
			"the attestation key itself": func(t testing.TB, x *exchange) {
				key := x.tpm.Key
				x.tpm.Key = x.tpm.AK
				x.bundle.Certify = must[*forge.Statement](t)(x.tpm.Certify(x.extra).SignedBy(x.tpm.AK))
				x.bundle.Certify.Third, x.tpm.Key = x.tpm.AK.Area.Bytes(), key
			},
		},
		attest.KeyMismatch: {
			"a request for another key": func(t testing.TB, x *exchange) { x.tpm.Key = stranger(t).Key },
			"a request for another kind of key": func(t testing.TB, x *exchange) {
				x.tpm.Key = must[*forge.Key](t)(forge.NewKey("rsa", forge.Device))
			},
		},
		attest.PCRSelection: {
			"no quote":                   plain(func(x *exchange) { x.bundle.Quote = nil }),
			"a quote of nothing":         selecting("sha256", nil),
			"a quote of no registers":    selecting("sha256", nil, forge.Select(forge.SHA256)),
			"a quote of fewer registers": selecting("sha256", registers[1:]),
			"a quote of more registers":  selecting("sha256", append(slices.Clone(registers), 23)),
			"a quote of other registers": selecting("sha256", []int{10, 11, 12, 13, 15, 16, 17, 18, 19, 20}),
			"a quote of another bank":    selecting("sha384", registers),
			"a quote of the SHA-1 bank":  selecting("sha256", registers, forge.Select(forge.SHA1, registers...)),
			"a quote of two banks":       selecting("sha256", registers, forge.Select(forge.SHA256, registers...), forge.Select(forge.SHA1, 0)),
			"a bank in two parts":        selecting("sha256", registers, forge.Select(forge.SHA256, registers[:5]...), forge.Select(forge.SHA256, registers[5:]...)),
		},
		attest.PCRDigest: {
			"values that were not quoted": plain(func(x *exchange) { x.bundle.Quote.Third[4*32] ^= 1 }),
			"no values":                   plain(func(x *exchange) { x.bundle.Quote.Third = nil }),
			"a value less":                plain(func(x *exchange) { x.bundle.Quote.Third = x.bundle.Quote.Third[32:] }),
			"a value more":                plain(func(x *exchange) { x.bundle.Quote.Third = append(x.bundle.Quote.Third, make([]byte, 32)...) }),
			"a byte more":                 plain(func(x *exchange) { x.bundle.Quote.Third = append(x.bundle.Quote.Third, 0) }),
			"values in another order": plain(func(x *exchange) {
				v := x.bundle.Quote.Third
				x.bundle.Quote.Third = slices.Concat(v[4*32:5*32], v[:4*32], v[5*32:])
			}),
			"an empty digest":                   quoting(func(_ *exchange, a *forge.Attest) { a.Digest = nil }),
			"a digest by another hash function": quoting(func(x *exchange, a *forge.Attest) { sum := sha1.Sum(x.bundle.Quote.Third); a.Digest = sum[:] }),
		},
		attest.DuplicateStatement: {
			"two certifies": plain(func(x *exchange) { again(x, &forge.Bundle{Certify: x.bundle.Certify}) }),
			"two quotes":    plain(func(x *exchange) { again(x, &forge.Bundle{Quote: x.bundle.Quote}) }),
			"two logs":      plain(func(x *exchange) { x.bundle.EventLog = []byte{1}; again(x, &forge.Bundle{EventLog: []byte{1}}) }),
		},
		attest.UnsupportedEvidence: {
			"nothing but unknown evidence": plain(func(x *exchange) {
				*x.bundle = forge.Bundle{Further: [][]byte{forge.Wrap([]int{1, 2, 3}, casn1.NULL, nil), forge.Wrap(forge.WrappedStatement, casn1.UTF8String, []byte(`["application/eat+cwt","AA"]`))}}
			}),
		},
		attest.LogMissing: {"no event log where the profile wants one": plain(func(x *exchange) { x.terms.EventLog = true })},
		attest.LogMalformed: {
			"an event log of rubbish":                 plain(func(x *exchange) { x.bundle.EventLog = []byte("rubbish") }),
			"an event log that does not decompress":   plain(func(x *exchange) { again(x, logOf("+gzip", "AAAA")) }),
			"an event log that is far too long":       plain(func(x *exchange) { x.bundle.EventLog, x.bundle.Packed = make([]byte, attest.MaxEventLog+1), true }),
			"an event log that goes on uncompressed":  plain(func(x *exchange) { again(x, logOf("+gzip", packedTwice)) }),
			"an event log with nothing at all inside": plain(func(x *exchange) { again(x, logOf("", "")) }),
		},
		attest.LogMismatch: {
			"the log of another boot": boot(func(x *exchange, log *forge.EventLog) {
				other := &forge.EventLog{}
				other.Boot(x.tpm.Clone(), "Firmware 1.0", true, "shim 15.8", "another kernel")
				x.bundle.EventLog = other.Bytes()
			}),
			"a log without its last event": boot(func(x *exchange, log *forge.EventLog) {
				log.Entries = log.Entries[:len(log.Entries)-1]
				x.bundle.EventLog = log.Bytes()
			}),
		},
		attest.LogDigest: {
			"secure boot that was off, told as on": boot(func(x *exchange, log *forge.EventLog) {
				log.Entries[1].Data[len(log.Entries[1].Data)-1] ^= 1
				x.bundle.EventLog = log.Bytes()
			}),
		},
		attest.ClockRollback: {
			"fewer resets than before":   before(func(c *attest.Clock) { c.Reset = 3 }),
			"fewer restarts than before": before(func(c *attest.Clock) { c.Restart = 1 }),
			"a clock that ran backwards": before(func(c *attest.Clock) { c.Clock += 1_000_000 }),
		},
		attest.MalformedEvidence: malformations(),
	}
	for reason, lies := range rows {
		for says, tell := range lies {
			x := newWorld(t, "p256", "p256", "p256").begin(t, attest.CaseActivation)
			tell(t, x)
			_, err := x.send(t)
			t.Run(string(reason)+": "+says, func(t *testing.T) { refused(t, err, reason) })
		}
	}
}

// boot restarts the machine, quotes it and sends a log that is not quite the one of its boot.
func boot(change func(x *exchange, log *forge.EventLog)) lie {
	return func(t testing.TB, x *exchange) {
		log := &forge.EventLog{}
		x.tpm.Reset()
		log.Boot(x.tpm, "Firmware 1.0", true, "shim 15.8", "linux 6.12")
		x.bundle = must[*forge.Bundle](t)(x.tpm.Evidence(x.extra, "sha256", registers))
		x.bundle.EventLog = log.Bytes()
		if r, err := x.send(t); err != nil || !r.Boot.LogReplayed {
			t.Errorf("the log as it was: %v", err)
		}
		change(x, log)
	}
}

// before says that the device was seen with a later clock.
func before(later func(c *attest.Clock)) lie {
	return plain(func(x *exchange) {
		x.question.Bond = bondOf(x.tpm)
		later(&x.question.Bond.Clock)
	})
}

// again adds the statements of another bundle.
func again(x *exchange, more *forge.Bundle) {
	var statements []byte
	der := more.DER()
	statements = der[2:]
	if der[1]&0x80 != 0 {
		statements = der[2+der[1]&0x7f:]
	}
	skip := 2
	if statements[1]&0x80 != 0 {
		skip += int(statements[1] & 0x7f)
	}
	x.bundle.Further = append(x.bundle.Further, statements[skip:])
}

// logOf is a bundle with an event log in base64url, as it is given.
func logOf(suffix, encoded string) *forge.Bundle {
	return &forge.Bundle{Further: [][]byte{forge.Wrap(forge.WrappedStatement, casn1.UTF8String, []byte(`["`+forge.EventLogType+suffix+`","`+encoded+`",4]`))}}
}

// packedTwice are two gzip members, one after the other, with nothing in them.
const packedTwice = "H4sIAAAAAAAA_wEAAP__AAAAAAAAAAAfiwgAAAAAAAD_AQAA__8AAAAAAAAAAA"

func signedAs(t testing.TB, x *exchange, scheme, hash uint16) {
	values := x.bundle.Quote.Third
	x.bundle.Quote = must[*forge.Statement](t)(x.tpm.Quote(x.extra, "sha256", registers).SignedAs(x.tpm.AK, scheme, hash))
	x.bundle.Quote.Third = values
}

func rsaLike(scheme byte) []byte {
	return append([]byte{0, scheme, 0, forge.SHA256, 1, 0}, make([]byte, 256)...)
}

func longSignature(s []byte) []byte {
	r := append([]byte{0}, s[6:6+32]...)
	return slices.Concat(s[:4], forge.Sized(r), forge.Sized(s[6+32+2:]))
}

// malformations are structures with a defect of form. Those of statements are signed all the same.
func malformations() map[string]lie {
	out := map[string]lie{
		"a certify with a byte after it": certifying(func(_ *exchange, a *forge.Attest) { a.Trailing = []byte{0} }),
		"a quote with a byte after it":   quoting(func(_ *exchange, a *forge.Attest) { a.Trailing = []byte{0} }),
		"a quote of too many banks":      quoting(func(_ *exchange, a *forge.Attest) { a.Selections = slices.Repeat(a.Selections, 17) }),
		"a selection that is too wide":   quoting(func(_ *exchange, a *forge.Attest) { a.Selections[0].Bitmap = make([]byte, 5) }),
		"a certify without tpmTPublic":   plain(func(x *exchange) { x.bundle.Certify.Third = nil }),
		"an oversized structure":         plain(func(x *exchange) { x.bundle.Certify.Attest = append(x.bundle.Certify.Attest, make([]byte, 4096)...) }),
		"an empty statement":             plain(func(x *exchange) { x.bundle.Certify.Attest = nil }),
		"an empty signature":             plain(func(x *exchange) { x.bundle.Certify.Signature = nil }),
		"a key off its curve":            keyed(func(a *forge.Area) { a.Y = slices.Clone(a.Y); a.Y[31] ^= 1 }),
		"a point that is too long":       keyed(func(a *forge.Area) { a.X = append([]byte{0}, a.X...) }),
		"no point":                       keyed(func(a *forge.Area) { a.X, a.Y = nil, nil }),
		"nine statements": plain(func(x *exchange) {
			x.bundle.Further = slices.Repeat([][]byte{forge.Wrap([]int{1, 2, 3}, casn1.NULL, nil)}, 9)
		}),
		"eleven certificates":        plain(func(x *exchange) { x.bundle.Certs = slices.Repeat([][]byte{{0x30, 0}}, 11) }),
		"a number for a certificate": plain(func(x *exchange) { x.bundle.Certs = [][]byte{{2, 1, 1}} }),
		"a log in padded base64":     plain(func(x *exchange) { again(x, logOf("", "AA==")) }),
		"a log in base64 with lines": plain(func(x *exchange) { again(x, logOf("", "AA\nAA")) }),
		"a log that is not a record": plain(func(x *exchange) {
			x.bundle.Further = append(x.bundle.Further, forge.Wrap(forge.WrappedStatement, casn1.UTF8String, []byte(`{"a":1}`)))
		}),
	}
	for says, part := range map[string]func(b *forge.Bundle) *[]byte{
		"a certify":              func(b *forge.Bundle) *[]byte { return &b.Certify.Attest },
		"a quote":                func(b *forge.Bundle) *[]byte { return &b.Quote.Attest },
		"a signature":            func(b *forge.Bundle) *[]byte { return &b.Certify.Signature },
		"a signature of a quote": func(b *forge.Bundle) *[]byte { return &b.Quote.Signature },
		"a key's public area":    func(b *forge.Bundle) *[]byte { return &b.Certify.Third },
	} {
		out[says+" with a byte less"] = plain(func(x *exchange) { p := part(x.bundle); *p = (*p)[:len(*p)-1] })
		out[says+" with a byte more"] = plain(func(x *exchange) { p := part(x.bundle); *p = append(slices.Clone(*p), 0) })
		out[says+" of one byte"] = plain(func(x *exchange) { *part(x.bundle) = []byte{0xff} })
	}
	return out
}
