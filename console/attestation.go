package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// shownAttestation is what is known of a device's evidence.
type shownAttestation struct {
	Device string          `json:"device"`
	State  fleet.State     `json:"state"`
	Bond   *shownBond      `json:"bond"`   // null: no evidence was ever accepted, or the bond was lifted
	Latest *shownAppraisal `json:"latest"` // the newest decision that evidence was part of; null: none is near in the record
}

// shownBond is the TPM that a device is bound to and what it showed last.
type shownBond struct {
	EK          string            `json:"ek_sha256,omitempty"`
	AK          string            `json:"ak_sha256"`
	Case        attest.Case       `json:"case"`
	Verdict     string            `json:"verdict"`
	First       time.Time         `json:"first"`
	Last        time.Time         `json:"last"`
	Affirmed    *time.Time        `json:"affirmed"` // null: no evidence of it was ever affirming
	Clock       shownClock        `json:"clock"`
	Bank        string            `json:"bank,omitempty"`
	PCRs        map[string]string `json:"pcrs,omitempty"`
	EvidenceSHA string            `json:"evidence_sha256"`
	EventLogSHA string            `json:"event_log_sha256,omitempty"`
}

type shownClock struct {
	Clock    uint64 `json:"clock_ms"`
	Reset    uint32 `json:"reset"`
	Restart  uint32 `json:"restart"`
	Safe     bool   `json:"safe"`
	Firmware string `json:"tpm_firmware"` // as the TPM reports it, hex
}

// shownAppraisal is one decision with the appraisal that it rested on.
type shownAppraisal struct {
	Decision  string          `json:"decision"`
	At        string          `json:"at"`
	Action    string          `json:"action"`
	Outcome   audit.Outcome   `json:"outcome"`
	Reasons   []policy.Reason `json:"reasons,omitempty"`
	Appraisal json.RawMessage `json:"appraisal"`
}

func showBond(b *attest.Bond) *shownBond {
	s := &shownBond{
		EK: b.EK, AK: b.AK, Case: b.Case, Verdict: b.Verdict.String(), First: b.First.UTC(), Last: b.Last.UTC(),
		Clock: shownClock{b.Clock.Clock, b.Clock.Reset, b.Clock.Restart, b.Clock.Safe, strconv.FormatUint(b.Clock.Firmware, 16)},
		Bank:  b.Bank, PCRs: make(map[string]string, len(b.PCRs)), EvidenceSHA: hex.EncodeToString(b.Evidence[:]),
	}
	if !b.Affirmed.IsZero() {
		at := b.Affirmed.UTC()
		s.Affirmed = &at
	}
	if b.EventLog != ([32]byte{}) {
		s.EventLogSHA = hex.EncodeToString(b.EventLog[:])
	}
	for index, value := range b.PCRs {
		s.PCRs[strconv.Itoa(index)] = hex.EncodeToString(value)
	}
	return s
}

func (c *Console) showAttestation(call *call) (deed, error) {
	return call.about("device", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		device, err := c.Fleet.Device(ctx, id)
		if err != nil {
			return answer{}, err
		}
		shown := shownAttestation{Device: device.ID, State: device.State}
		bond, err := c.Bonds.Show(ctx, p, device.ID)
		switch {
		case err == nil:
			shown.Bond = showBond(&bond)
		case !fault.Is(err, fault.NotFound):
			return answer{}, err
		}
		if shown.Latest, err = c.latestAppraisal(ctx, device.ID); err != nil {
			return answer{}, err
		}
		if shown.Bond == nil && shown.Latest == nil {
			return answer{}, fault.New(fault.NotFound, "attestation_unknown", "this device has never shown evidence of a TPM")
		}
		return ok(shown), nil
	})
}

// nearby is how many of a device's newest decisions are looked through for evidence.
const nearby = 200

// latestAppraisal returns the newest decision about the device in which evidence was appraised, nil if none is near.
func (c *Console) latestAppraisal(ctx context.Context, device string) (*shownAppraisal, error) {
	entries, err := c.Record.Entries(ctx, audit.Query{Object: device, Decided: true, Limit: nearby})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		l, err := readLeaf(e)
		if err != nil {
			return nil, err
		}
		if l.Object.Type != "device" || l.Decision == nil {
			continue
		}
		if appraisal := appraisalIn(l.Decision.Input); appraisal != nil {
			return &shownAppraisal{l.ID.String(), l.At, l.Action, l.Outcome, l.Decision.Reasons, appraisal}, nil
		}
	}
	return nil, nil
}

// appraisalIn returns the appraisal in a decision's input, nil where no evidence was brought.
func appraisalIn(input json.RawMessage) json.RawMessage {
	var in struct {
		Context struct {
			Attestation json.RawMessage `json:"attestation"`
		} `json:"context"`
	}
	var evidence struct {
		SHA256 string `json:"evidence_sha256"`
	}
	if json.Unmarshal(input, &in) != nil || json.Unmarshal(in.Context.Attestation, &evidence) != nil || evidence.SHA256 == "" {
		return nil
	}
	return in.Context.Attestation
}

func (c *Console) unbindDevice(call *call) (deed, error) {
	return call.withReason("device", c.Bonds.Unbind)
}

// sighting is what a device showed when it was refused for its boot, if that is
// the newest there is of it.
func (c *Console) sighting(ctx context.Context, device string) (*attest.Sighting, error) {
	latest, err := c.latestAppraisal(ctx, device)
	if err != nil {
		return nil, err
	}
	none := fault.New(fault.Conflict, "not_refused", "the device's newest evidence was not refused as baseline_mismatch: there is nothing of that kind to learn")
	if latest == nil || latest.Outcome != audit.Refused || len(latest.Reasons) == 0 || latest.Reasons[0].Code != string(attest.BaselineMismatch) {
		return nil, none
	}
	var seen struct {
		PCR struct {
			Bank   string            `json:"bank"`
			Values map[string]string `json:"values"`
		} `json:"pcr"`
		Evidence string `json:"evidence_sha256"`
		EventLog string `json:"event_log_sha256"`
	}
	if err := json.Unmarshal(latest.Appraisal, &seen); err != nil || len(seen.PCR.Values) == 0 {
		return nil, none
	}
	s := &attest.Sighting{Bank: seen.PCR.Bank, PCRs: make(map[int][]byte, len(seen.PCR.Values)), Evidence: seen.Evidence}
	for index, value := range seen.PCR.Values {
		n, err := strconv.Atoi(index)
		if err != nil {
			return nil, none
		}
		if s.PCRs[n], err = hex.DecodeString(value); err != nil {
			return nil, none
		}
	}
	if log, err := hex.DecodeString(seen.EventLog); err == nil && len(log) == len(s.EventLog) {
		copy(s.EventLog[:], log)
	}
	return s, nil
}
