package housetest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os/exec"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/swtpm"
)

// byHand is a device that somebody else built from the wire format alone, with
// go-tpm, encoding/asn1 and net/http: nothing of our agent is in it.
type byHand struct {
	house   *housetest.House
	machine *swtpm.TPM
	device  string
	token   string
	key     string // distinguishes the keys that it makes
	akCert  []byte // of the attestation key, DER
	held    *x509.Certificate
	heldKey string
	ekFrom  *swtpm.TPM // whose endorsement key it claims to have; nil for its own
}

// The ways to have an attestation key vouched for.
const (
	byCertificate = "certificate"
	byMemory      = "pinned"
	byEKCert      = "endorsement key certificate"
	byRegister    = "registered endorsement key"
)

// object is a key in the TPM.
type object struct {
	handle tpm2.AuthHandle
	area   []byte // TPMT_PUBLIC
	key    *ecdsa.PublicKey
}

// primary makes a P-256 signing key, the same one for the same label.
func primary(t transport.TPM, hierarchy tpm2.TPMHandle, restricted bool, label string) (object, error) {
	x := make([]byte, 32)
	copy(x, label)
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
				UserWithAuth: true, SignEncrypt: true, Restricted: restricted},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
				Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}}),
		}),
	}.Execute(t)
	if err != nil {
		return object{}, err
	}
	area, err := made.OutPublic.Contents()
	if err != nil {
		return object{}, err
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return object{}, err
	}
	public := make([]byte, 65)
	public[0] = 4
	new(big.Int).SetBytes(point.X.Buffer).FillBytes(public[1:33])
	new(big.Int).SetBytes(point.Y.Buffer).FillBytes(public[33:])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	if err != nil {
		return object{}, err
	}
	return object{
		handle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth(nil)},
		area:   made.OutPublic.Bytes(),
		key:    key,
	}, nil
}

// sign signs a SHA-256 digest.
func (o object) sign(t transport.TPM, digest []byte) ([]byte, error) {
	signed, err := tpm2.Sign{KeyHandle: o.handle, Digest: tpm2.TPM2BDigest{Buffer: digest},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(t)
	if err != nil {
		return nil, err
	}
	e, err := signed.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
}

// signer is a key of the machine for TLS, which opens the TPM for itself.
type signer struct {
	machine *swtpm.TPM
	label   string
	key     *ecdsa.PublicKey
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.key }

// Sign implements crypto.Signer.
func (s *signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) (signature []byte, err error) {
	s.machine.Do(func(t transport.TPM) error {
		o, err := primary(t, tpm2.TPMRHOwner, false, s.label)
		if err != nil {
			return err
		}
		defer tpm2.FlushContext{FlushHandle: o.handle.Handle}.Execute(t)
		signature, err = o.sign(t, digest)
		return err
	})
	return signature, err
}

// answer is what the server said to one request.
type answer struct {
	status int
	code   string // the reason code of a refusal
	text   string
	ref    string
}

// client is HTTP with the cookies and the credential of one attempt.
func (d *byHand) client(renewing bool) *http.Client {
	c, config := d.house.Client()
	if renewing {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{d.held.Raw},
			PrivateKey: &signer{d.machine, d.heldKey, d.held.PublicKey.(*ecdsa.PublicKey)}}}
	}
	return c
}

func (d *byHand) post(c *http.Client, operation, contentType string, body []byte, cookie string) (answer, []byte, string) {
	request, err := http.NewRequest(http.MethodPost, d.house.URL+"/.well-known/est/"+operation, bytes.NewReader(body))
	if err != nil {
		return answer{text: err.Error()}, nil, ""
	}
	request.Header.Set("Content-Type", contentType)
	if d.token != "" {
		request.SetBasicAuth(d.device, d.token)
	}
	if cookie != "" {
		request.Header.Set("Cookie", "estnonce="+cookie)
	}
	response, err := c.Do(request)
	if err != nil {
		return answer{text: err.Error()}, nil, ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, text: string(text)}
	if response.StatusCode != http.StatusOK {
		first, rest, _ := strings.Cut(a.text, "\n")
		a.code, _, _ = strings.Cut(first, ":")
		a.ref = strings.TrimSpace(strings.TrimPrefix(rest, "ref: "))
	}
	for _, c := range response.Cookies() {
		if c.Name == "estnonce" {
			cookie = c.Value
		}
	}
	return a, text, cookie
}

// enrol goes the whole way, and holds the certificate that comes of it.
func (d *byHand) enrol(way string) answer {
	return d.ask("simpleenroll", way, d.client(false), pkix.Name{})
}

// renew is enrol on the strength of the certificate held.
func (d *byHand) renew(way string) answer {
	token := d.token
	d.token = ""
	defer func() { d.token = token }()
	return d.ask("simplereenroll", way, d.client(true), d.held.Subject)
}

// nonce is the server's JSON.
type nonce struct {
	Nonce        string
	RespTypeInfo struct {
		RespInfo struct {
			Selection []struct {
				HashAlgo string `json:"tpm20-hash-algo"`
				Index    []uint `json:"pcr-index"`
			} `json:"tpm20-pcr-selection"`
			Activation *struct{ CredentialBlob, EncryptedSecret string }
		}
	}
}

func (d *byHand) ask(operation, way string, c *http.Client, subject pkix.Name) (got answer) {
	// The connection is there before the TPM is open: it serves one at a time, and TLS needs it, too.
	if hello, err := c.Get(d.house.URL + "/.well-known/est/cacerts"); err == nil {
		io.Copy(io.Discard, hello.Body)
		hello.Body.Close()
	}
	var csr []byte
	var cookie string
	label := d.key + operation
	d.machine.Do(func(t transport.TPM) error {
		ak, err := primary(t, tpm2.TPMRHEndorsement, true, "AK")
		if err != nil {
			return err
		}
		defer tpm2.FlushContext{FlushHandle: ak.handle.Handle}.Execute(t)
		challenge, extraData, err := d.challenge(t, c, way, ak, &got, &cookie)
		if err != nil || got.status != http.StatusOK {
			return err
		}
		key, err := primary(t, tpm2.TPMRHOwner, false, label)
		if err != nil {
			return err
		}
		defer tpm2.FlushContext{FlushHandle: key.handle.Handle}.Execute(t)
		bundle, err := d.bundle(t, ak, key, challenge, extraData, way)
		if err != nil {
			return err
		}
		csr, err = request(t, key, subject, bundle)
		return err
	})
	if got.status != http.StatusOK {
		return got
	}
	got, text, _ := d.post(c, operation, "application/pkcs10", []byte(base64.StdEncoding.EncodeToString(csr)), cookie)
	if got.status == http.StatusOK {
		d.held, d.heldKey = certificateIn(text), label
	}
	return got
}

// certificateIn takes the certificate out of certs-only CMS, with OpenSSL.
func certificateIn(body []byte) *x509.Certificate {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil
	}
	tool := exec.Command("openssl", "pkcs7", "-inform", "DER", "-print_certs")
	tool.Stdin = bytes.NewReader(der)
	out, err := tool.Output()
	if err != nil {
		return nil
	}
	_, pem, _ := strings.Cut(string(out), "-----BEGIN CERTIFICATE-----")
	pem, _, _ = strings.Cut(pem, "-----END")
	if der, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(pem), "")); err != nil {
		return nil
	}
	c, _ := x509.ParseCertificate(der)
	return c
}

// challenge is the nonce exchange, with the activation where there is one. It
// returns what the statements have to carry.
func (d *byHand) challenge(t transport.TPM, c *http.Client, way string, ak object, got *answer, cookie *string) (*nonce, []byte, error) {
	url64 := base64.RawURLEncoding.EncodeToString
	about := map[string]any{"hashAlgs": []string{"sha256"}}
	if way != byCertificate {
		about["akPub"] = url64(ak.area)
	}
	var ek *tpm2.CreatePrimaryResponse
	if way == byEKCert || way == byRegister {
		var err error
		if ek, err = (tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}).Execute(t); err != nil {
			return nil, nil, err
		}
		defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(t)
		area, certificate, err := d.endorsement(t, ek)
		if err != nil {
			return nil, nil, err
		}
		about["ekPub"] = url64(area)
		if way == byEKCert {
			about["ekCerts"] = []string{url64(certificate)}
		}
	}
	body, err := json.Marshal(map[string]any{"len": 32, "reqTypeInfo": map[string]any{
		"type": "2.25.197995676531165126923878663687273591694.1", "reqInfo": about}})
	if err != nil {
		return nil, nil, err
	}
	var text []byte
	if *got, text, *cookie = d.post(c, "nonce", "application/est-attestation-freshness+json", body, ""); got.status != http.StatusOK {
		return nil, nil, nil
	}
	var n nonce
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(n.Nonce)
	if err != nil || n.RespTypeInfo.RespInfo.Activation == nil {
		return &n, raw, err
	}
	secret, err := activate(t, ak, ek, n.RespTypeInfo.RespInfo.Activation.CredentialBlob, n.RespTypeInfo.RespInfo.Activation.EncryptedSecret)
	if err != nil { // as with a secret that is for another TPM
		*got = answer{text: err.Error()}
		return nil, nil, nil
	}
	sum := sha256.Sum256(append(raw, secret...))
	return &n, sum[:], nil
}

// endorsement is the endorsement key that the device shows, with its certificate.
func (d *byHand) endorsement(t transport.TPM, own *tpm2.CreatePrimaryResponse) (area, certificate []byte, err error) {
	if d.ekFrom == nil {
		certificate, err = readNV(t, 0x01c00002)
		return own.OutPublic.Bytes(), certificate, err
	}
	d.ekFrom.Do(func(victim transport.TPM) error {
		answer, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81010001)}.Execute(victim)
		if err != nil {
			return err
		}
		area = answer.OutPublic.Bytes()
		certificate, err = readNV(victim, 0x01c00002)
		return err
	})
	return area, certificate, nil
}

func readNV(t transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if err != nil {
		return nil, err
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	var whole []byte
	for len(whole) < int(contents.DataSize) {
		part, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:    min(contents.DataSize-uint16(len(whole)), 512), Offset: uint16(len(whole))}.Execute(t)
		if err != nil {
			return nil, err
		}
		whole = append(whole, part.Data.Buffer...)
	}
	return whole, nil
}

func activate(t transport.TPM, ak object, ek *tpm2.CreatePrimaryResponse, blob, encrypted string) ([]byte, error) {
	rawBlob, err := base64.RawURLEncoding.DecodeString(blob)
	if err != nil {
		return nil, err
	}
	rawSecret, err := base64.RawURLEncoding.DecodeString(encrypted)
	if err != nil {
		return nil, err
	}
	consent := func(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			PolicySession: session, NonceTPM: nonce}.Execute(t)
		return err
	}
	opened, err := tpm2.ActivateCredential{ActivateHandle: ak.handle,
		KeyHandle:      tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, consent)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: rawBlob[2:]}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: rawSecret[2:]}}.Execute(t)
	if err != nil {
		return nil, err
	}
	return opened.CertInfo.Buffer, nil
}

// The ASN.1 of the wire format.
type (
	tpmStatement struct{ Attest, Signature, About []byte }
	wireItem     struct {
		Type asn1.ObjectIdentifier
		Stmt asn1.RawValue
	}
	wireBundle struct {
		Attestations []wireItem
		Certs        []asn1.RawValue `asn1:"optional,omitempty"`
	}
	wireAttribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	requestInfo struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes []wireAttribute `asn1:"tag:0,set"`
	}
	signedRequest struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
)

// bundle makes the statements about a key.
func (d *byHand) bundle(t transport.TPM, ak, key object, n *nonce, extraData []byte, way string) ([]byte, error) {
	fresh := tpm2.TPM2BData{Buffer: extraData}
	certified, err := tpm2.Certify{ObjectHandle: key.handle, SignHandle: ak.handle, QualifyingData: fresh,
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(t)
	if err != nil {
		return nil, err
	}
	asked := n.RespTypeInfo.RespInfo.Selection[0]
	if asked.HashAlgo != "TPM_ALG_SHA256" {
		return nil, fmt.Errorf("the server asks for %s", asked.HashAlgo)
	}
	pick := func(indices ...uint) tpm2.TPMLPCRSelection {
		return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(indices...)}}}
	}
	quoted, err := tpm2.Quote{SignHandle: ak.handle, QualifyingData: fresh, PCRSelect: pick(asked.Index...),
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(t)
	if err != nil {
		return nil, err
	}
	var values []byte
	for _, index := range asked.Index {
		read, err := tpm2.PCRRead{PCRSelectionIn: pick(index)}.Execute(t)
		if err != nil {
			return nil, err
		}
		values = append(values, read.PCRValues.Digests[0].Buffer...)
	}
	certify, err := asn1.Marshal(tpmStatement{certified.CertifyInfo.Bytes(), tpm2.Marshal(certified.Signature), key.area})
	if err != nil {
		return nil, err
	}
	quote, err := asn1.Marshal(tpmStatement{quoted.Quoted.Bytes(), tpm2.Marshal(quoted.Signature), values})
	if err != nil {
		return nil, err
	}
	b := wireBundle{Attestations: []wireItem{
		{asn1.ObjectIdentifier{2, 23, 133, 20, 1}, asn1.RawValue{FullBytes: certify}},
		{asn1.ObjectIdentifier{2, 23, 133, 20, 2}, asn1.RawValue{FullBytes: quote}},
	}}
	if way == byCertificate {
		b.Certs = []asn1.RawValue{{FullBytes: d.akCert}}
	}
	return asn1.Marshal(b)
}

// request is a PKCS#10 with the bundle as its only attribute.
func request(t transport.TPM, key object, subject pkix.Name, bundle []byte) ([]byte, error) {
	name, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.key)
	if err != nil {
		return nil, err
	}
	info, err := asn1.Marshal(requestInfo{Subject: asn1.RawValue{FullBytes: name}, Key: asn1.RawValue{FullBytes: spki},
		Attributes: []wireAttribute{{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}, []asn1.RawValue{{FullBytes: bundle}}}}})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(info)
	signature, err := key.sign(t, digest[:])
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(signedRequest{asn1.RawValue{FullBytes: info},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
}
