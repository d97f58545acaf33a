package enroll

import "time"

// describeAttestation is what the device's evidence showed, as policy and the
// record see it; without evidence it says that there is none.
func (v *visit) describeAttestation() map[string]any {
	d := v.attested.Document()
	d["assurance"] = string(v.attested.Assurance())
	if v.boundTo != "" && v.boundTo != v.device.ID {
		d["bound_to"] = v.boundTo
	}
	return d
}

// describeBond is what the device attested with before.
func (v *visit) describeBond() map[string]any {
	d := v.bond.Document()
	d["age_s"] = int64(v.at.Sub(v.bond.Last) / time.Second)
	return d
}

// describeTerms is what the profile asks of those who enrol under it.
func (p *Profile) describeTerms() map[string]any {
	d := map[string]any{"channel_binding": p.ChannelBinding, "evidence": Optional, "evidence_on_renew": p.EvidenceOnRenew}
	if p.Evidence == Required {
		d["evidence"] = Required
	}
	return d
}
