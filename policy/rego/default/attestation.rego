# What devices prove with a TPM. The server has verified the evidence before it
# asks: forged, stale and foreign evidence never comes here, nor does a boot that
# an active baseline does not allow. What is left to judge stands in
# input.context.attestation, and what the device proved before in input.context.bond.
# Most devices have no TPM: neither is there, and no rule of this file is looked into.
package hallmark

# METADATA
# title: A device in service shows its state between renewals
# description: With the certificate it holds.
# labels:
#   control: ["IEC62443-4-2:EDR3.14", "NIST800-53:IA-3(4)"]
allow if {
	input.action.name == "device.attest"
	in_service
	input.subject.properties.auth.method == "certificate"
}

# METADATA
# title: A known TPM gets a certificate of its attestation key
# description: Once it has shown to be the one that the register, or an earlier enrolment, says the device has.
# labels:
#   control: ["IEC62443-4-2:EDR3.12", "NIST800-53:IA-3(4)"]
allow if {
	input.action.name == "attestation.certify"
	in_service
	input.subject.properties.auth.method == "activation"
}

# METADATA
# title: The device asks for itself, and is in service
in_service if {
	input.subject.type == "device"
	input.subject.id == input.resource.id
	input.resource.properties.state in {"expected", "active"}
}

# METADATA
# title: A TPM of an unknown maker waits for a person, once
# description: |
#   After that the device is bound to it. To trust the maker: hallmark anchor add --kind ek FILE.
# labels:
#   control: ["IEC62443-4-2:EDR3.12", "NIST800-53:IA-3(4)"]
hold contains {"code": "ek_untrusted", "detail": detail} if {
	"ek_untrusted" in input.context.attestation.reasons
	not input.context.approval
	not input.context.bond.ek_sha256 == input.context.attestation.ek.sha256
	detail := "no trusted maker vouches for this TPM; an operator has to look at it, or trust its maker"
}

# METADATA
# title: What a maker's advisory condemns is refused
# description: What it only warns of is in the record.
# labels:
#   control: ["IEC62443-4-2:EDR3.12", "NIST800-53:SI-2"]
deny contains {"code": "advisory", "detail": detail} if {
	input.context.attestation.advisories
	some advisory in input.context.attestation.advisories
	advisory.action == "deny"
	detail := sprintf("advisory %s is against this TPM: %s", [advisory.id, advisory.text])
}

# METADATA
# title: A device that is not what it should be is refused
# labels:
#   control: ["IEC62443-4-2:CR3.4", "IEC62443-4-2:EDR3.14", "NIST800-53:SI-7(9)"]
deny contains {"code": "contraindicated", "detail": detail} if {
	input.context.attestation.verdict == "contraindicated"
	detail := "the device is not what it should be; compare: hallmark attestation show DEVICE"
}

# METADATA
# title: A boot that changed is refused, unless settings.on_boot_change allows it
# description: |
#   Without a baseline for its model, a device is held against its own last boot.
#   on_boot_change says what a difference means: quarantine (also where nothing
#   is said, or something unknown), deny, or allow.
# labels:
#   control: ["IEC62443-4-2:CR3.4", "IEC62443-4-2:EDR3.14", "NIST800-53:SI-7(1)"]
deny contains {"code": "baseline_mismatch", "detail": detail} if {
	input.context.attestation.boot.changed
	boot_changed
	detail := sprintf("PCR %s changed since this device was accepted last; compare: hallmark attestation show %s", [
		concat(", ", [sprintf("%d", [pcr]) | some pcr in input.context.attestation.boot.changed]),
		input.resource.id,
	])
}

# METADATA
# title: Whose boot changed is quarantined
# labels:
#   control: ["IEC62443-4-2:CR3.4", "NIST800-53:SI-7"]
consequences["obligations"] := [{"type": "quarantine"}] if {
	input.context.attestation.boot.changed
	boot_changed
	not data.settings.on_boot_change == "deny"
}

boot_changed if {
	some _ in input.context.attestation.boot.changed
	not data.settings.on_boot_change == "allow"
}

# METADATA
# title: Certificates are short until a boot was affirmed
# description: |
#   A device with a TPM whose boot no baseline has affirmed yet gets certificates
#   of settings.unaffirmed_lifetime; "" leaves them their profile's.
# labels:
#   control: ["IEC62443-4-2:EDR3.14", "NIST800-53:SC-17"]
lifetimes contains unaffirmed if input.context.attestation.key.tpm_resident

# METADATA
# title: Also where the evidence came earlier
lifetimes contains unaffirmed if input.context.bond.last

unaffirmed := lifetime if {
	not input.context.attestation.verdict == "affirming"
	not input.context.bond.affirmed
	lifetime := object.get(data.settings, "unaffirmed_lifetime", "4h")
	lifetime != ""
}

# METADATA
# title: The older the evidence, the shorter the certificate
# description: |
#   A renewal without fresh evidence stands on what the device proved last. The
#   table settings.attestation_lifetimes says how long a certificate lives then.
# labels:
#   control: ["IEC62443-4-2:EDR3.14", "NIST800-53:IA-3(4)"]
lifetimes contains row.lifetime if {
	input.context.bond.last
	not input.context.attestation.fresh
	some row in data.settings.attestation_lifetimes
	evidence_age_ns > time.parse_duration_ns(row.older_than)
}

# METADATA
# title: Evidence that is too old renews nothing
# description: No older than settings.max_attestation_age, if that is set.
# labels:
#   control: ["IEC62443-4-2:EDR3.14", "NIST800-53:IA-3(4)"]
deny contains {"code": "attestation_too_old", "detail": detail} if {
	input.action.name == "certificate.renew"
	input.context.bond.last
	data.settings.max_attestation_age != ""
	not input.context.attestation.fresh
	evidence_age_ns > time.parse_duration_ns(data.settings.max_attestation_age)
	detail := sprintf("the device attested last at %s; it has to send evidence again", [input.context.bond.last])
}

evidence_age_ns := time.parse_rfc3339_ns(input.context.time) - time.parse_rfc3339_ns(input.context.bond.last)
