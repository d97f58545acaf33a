package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-attestation/attest"

	"github.com/hallmark-pki/hallmark/internal/forge"
)

// machine is what all attested devices of the bench have in common: the boot
// of one real machine, and the maker of their TPMs.
type machine struct {
	log   []byte
	pcrs  map[int][]byte // of the SHA-256 bank, after that boot
	maker *forge.Authority

	primes []*big.Int // of the endorsement keys, see endorsementKey
	pairs  int        // how many pairs of them are given out
}

// attestedDevice is one device with a TPM in software.
type attestedDevice struct {
	*identity
	tpm   *forge.TPM
	ek    []byte // certificate of the endorsement key
	nonce []byte // the body of its nonce request
}

// recordedLog is the event log of a virtual machine with Ubuntu 21.04 (38 KB, 105
// events), among the test data of the module that reads event logs.
const recordedLog = "attest/testdata/ubuntu_2104_shielded_vm_no_secure_boot_eventlog"

// newMachine reads the log and replays it.
func newMachine(ctx context.Context) (*machine, error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-attestation").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for a recorded event log: %w", err)
	}
	m := &machine{pcrs: map[int][]byte{}}
	if m.log, err = os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), recordedLog)); err != nil {
		return nil, err
	}
	parsed, err := attest.ParseEventLog(m.log)
	if err != nil {
		return nil, err
	}
	const noAction = 3 // EV_NO_ACTION is not measured (PC Client Platform Firmware Profile, Section 10.4.1)
	for _, e := range parsed.Events(attest.HashSHA256) {
		if e.Type == noAction {
			continue
		}
		if m.pcrs[e.Index] == nil {
			m.pcrs[e.Index] = make([]byte, sha256.Size)
		}
		value := sha256.Sum256(append(m.pcrs[e.Index], e.Digest...))
		m.pcrs[e.Index] = value[:]
	}
	m.maker, err = forge.NewAuthority("Bench TPM Maker")
	return m, err
}

// endorsementKey makes the next RSA-2048 key, as TPMs have one. Making thousands
// takes too long, so each is another pair out of a few hundred primes. Keys that
// share a prime protect nothing, and here there is nothing to protect.
func (m *machine) endorsementKey() (*rsa.PrivateKey, error) {
	for second := 1; ; second++ {
		for second >= len(m.primes) {
			p, err := rand.Prime(rand.Reader, 1024)
			if err != nil {
				return nil, err
			}
			m.primes = append(m.primes, p)
		}
		if taken := second * (second - 1) / 2; m.pairs < taken+second {
			first := m.pairs - taken
			m.pairs++
			if key, ok := keyOf(m.primes[first], m.primes[second]); ok {
				return key, nil
			}
			second-- // a pair that makes no key: the next one
		}
	}
}

// keyOf is the RSA key of two primes, unless 65537 divides what it must not.
func keyOf(p, q *big.Int) (*rsa.PrivateKey, bool) {
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, Primes: []*big.Int{p, q}}
	if key.D = new(big.Int).ModInverse(big.NewInt(65537), phi); key.D == nil || key.N.BitLen() != 2048 {
		return nil, false
	}
	key.Precompute()
	return key, true
}

// devices makes devices first+1 … first+n.
func (m *machine) devices(first, n int) ([]*attestedDevice, error) {
	out := make([]*attestedDevice, n)
	for i := range out {
		t, err := forge.New("p256", "p256", "p256")
		if err != nil {
			return nil, err
		}
		ek, err := m.endorsementKey()
		if err != nil {
			return nil, err
		}
		if t.EK, err = forge.Hold(ek, forge.Endorsement); err != nil {
			return nil, err
		}
		for pcr, value := range m.pcrs {
			t.PCRs["sha256"][pcr] = value
		}
		d := &attestedDevice{identity: &identity{id: deviceID(first + i + 1), spki: t.Key.SPKI()}, tpm: t}
		if d.ek, err = m.maker.EK(t, forge.Model{Manufacturer: "id:42454E43", Model: "bench", Version: "id:00010002"}); err != nil {
			return nil, err
		}
		if d.nonce, err = nonceRequest(t, d.ek); err != nil {
			return nil, err
		}
		out[i] = d
	}
	return out, nil
}

// nonceRequest asks for a credential activation.
func nonceRequest(t *forge.TPM, ek []byte) ([]byte, error) {
	text := base64.RawURLEncoding.EncodeToString
	return json.Marshal(map[string]any{"len": 32, "reqTypeInfo": map[string]any{
		"type": "2.25.197995676531165126923878663687273591694.1",
		"reqInfo": map[string]any{
			"hashAlgs": []string{"sha256"}, "akPub": text(t.AK.Area.Bytes()), "ekPub": text(t.EK.Area.Bytes()), "ekCerts": []string{text(ek)},
		},
	}})
}

// challenge is the answer to it.
type challenge struct {
	Nonce string
	Info  struct {
		Info struct {
			Selection []struct {
				PCRs []int `json:"pcr-index"`
			} `json:"tpm20-pcr-selection"`
			Activation struct{ CredentialBlob, EncryptedSecret string }
		} `json:"respInfo"`
	} `json:"respTypeInfo"`
}

// attested enrols over a connection of its own: the nonce exchange with an
// activation, then the request with certify, quote and event log.
func (t *target) attested(ctx context.Context, m *machine, d *attestedDevice) error {
	c, err := t.dial(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	d.body = d.nonce
	if err := c.send("nonce", "application/est-attestation-freshness+json", t.token, d.identity); err != nil {
		return err
	}
	var asked challenge
	if err := json.Unmarshal(d.reply, &asked); err != nil {
		return err
	}
	if d.body, err = d.answer(m, &asked); err != nil {
		return err
	}
	return c.post("simpleenroll", t.token, d.identity)
}

// closedAttested is closed for devices with a TPM.
func (t *target) closedAttested(ctx context.Context, c int, m *machine, devices []*attestedDevice) ([]time.Duration, time.Duration, error) {
	latencies, wall, err := inTurn(ctx, c, len(devices), func(ctx context.Context, work func(do func(i int) error) error) error {
		return work(func(i int) error { return t.attested(ctx, m, devices[i]) })
	})
	if err != nil {
		return nil, 0, err
	}
	for _, d := range devices {
		if err := settle([]*identity{d.identity}); err != nil {
			return nil, 0, err
		}
	}
	return latencies, wall, nil
}

// answer is the request that a challenge asks for.
func (d *attestedDevice) answer(m *machine, asked *challenge) ([]byte, error) {
	var raw [3][]byte
	for i, text := range []string{asked.Nonce, asked.Info.Info.Activation.CredentialBlob, asked.Info.Info.Activation.EncryptedSecret} {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(text); err != nil {
			return nil, err
		}
	}
	secret, err := d.tpm.Activate(raw[1], raw[2])
	if err != nil {
		return nil, err
	}
	bundle, err := d.tpm.Evidence(forge.ExtraData(raw[0], secret), "sha256", asked.Info.Info.Selection[0].PCRs)
	if err != nil {
		return nil, err
	}
	bundle.EventLog, bundle.Certs = m.log, [][]byte{d.ek}
	der, err := d.tpm.CSR(d.id, bundle.DER())
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, der), nil
}

// attestation compares attested enrolments with plain ones at the product.
func (b *bench) attestation(ctx context.Context, c *contender) error {
	m, err := newMachine(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "ek-maker.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.maker.Certificate.Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		return err
	}
	if _, err := c.admin(ctx, "anchor", "add", "--profile", "device", "--kind", "ek", file); err != nil {
		return err
	}
	for round := range b.Rounds {
		plain, err := b.newDevices(b.N)
		if err != nil {
			return err
		}
		if err := b.measure(ctx, c, scenario{name: "plain"}, plain, false); err != nil {
			return err
		}
		devices, err := m.devices(b.devices, b.N)
		if err != nil {
			return err
		}
		b.devices += b.N
		seconds := 0
		if b.CPUProfile != "" && round == 0 && b.Only == "attested" {
			seconds = 1 + b.N/300
		}
		err = b.clock(ctx, c, c.figures["attested"], b.N, seconds, func() ([]time.Duration, time.Duration, error) {
			return c.target.closedAttested(ctx, b.C, m, devices)
		})
		if err != nil {
			return fmt.Errorf("attested enrolments: %w", err)
		}
	}
	b.attestedTable(c)
	return nil
}

func (b *bench) attestedTable(c *contender) {
	plain, attested := c.figures["plain"], c.figures["attested"]
	cpu := median(attested.cpu)
	ratio, onOneCore := cpu/median(plain.cpu), 1000/cpu
	b.printf("\nattested enrolments: nonce with activation, then certify, quote and an event log of 38 KB, over one fresh connection\n")
	b.printf("  CPU                    %7.3f ms       a plain one %.3f ms   ratio %.2f, target ≤ 3.00  %s\n", cpu, median(plain.cpu), ratio, mark(ratio, 3))
	b.printf("  on one core            %7.0f per s    target > 400  %s   (1 s / CPU; measured with the load beside it: %.0f per s)\n",
		onOneCore, mark(400, onOneCore), median(attested.rate))
	b.printf("  latency, %d clients    p50 %.1f ms   p99 %.1f ms\n", b.C, ms(percentile(attested.latencies, 50)), ms(percentile(attested.latencies, 99)))
}
