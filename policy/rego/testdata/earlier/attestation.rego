# What devices prove with a TPM. The server has verified the evidence before it
# asks: forged, stale and foreign evidence never comes here, nor does a boot that
# an active baseline does not allow. What is left to judge stands in
# input.context.attestation, and what the device proved before in input.context.bond.
#
# Most devices have no TPM. Where a rule begins with the bare name of what it is
# about, the evaluator passes it over without a look inside where that is missing.
package hallmark

# A device in service shows its state between renewals, with the certificate it holds.
allow if {
	input.action.name == "device.attest"
	in_service
	input.subject.properties.auth.method == "certificate"
}

# It gets a certificate of its attestation key once its TPM has shown to be the
# one that the register, or an earlier enrolment, says it has.
allow if {
	input.action.name == "attestation.certify"
	in_service
	input.subject.properties.auth.method == "activation"
}

# A TPM of an unknown maker waits for a person, once: after that the device is
# bound to it. To trust the maker: hallmark anchor add --kind ek FILE.
hold contains {"code": "ek_untrusted", "detail": detail} if {
	"ek_untrusted" in input.context.attestation.reasons
	not input.context.approval
	not input.context.bond.ek_sha256 == input.context.attestation.ek.sha256
	detail := "no trusted maker vouches for this TPM; an operator has to look at it, or trust its maker"
}

# What a maker's advisory condemns is refused. What it only warns of is in the record.
deny contains {"code": "advisory", "detail": detail} if {
	input.context.attestation.advisories
	some advisory in input.context.attestation.advisories
	advisory.action == "deny"
	detail := sprintf("advisory %s is against this TPM: %s", [advisory.id, advisory.text])
}

deny contains {"code": "contraindicated", "detail": detail} if {
	input.context.attestation.verdict == "contraindicated"
	detail := "the device is not what it should be; compare: hallmark attestation show DEVICE"
}

# Without a baseline for its model, a device is held against its own last boot.
# settings.on_boot_change says what a difference means: quarantine (also where
# nothing is said, or something unknown), deny, or allow.
deny contains {"code": "baseline_mismatch", "detail": detail} if {
	input.context.attestation.boot.changed
	boot_changed
	detail := sprintf("PCR %s changed since this device was accepted last; compare: hallmark attestation show %s", [
		concat(", ", [sprintf("%d", [pcr]) | some pcr in input.context.attestation.boot.changed]),
		input.resource.id,
	])
}

consequences["obligations"] := [{"type": "quarantine"}] if {
	boot_changed
	not data.settings.on_boot_change == "deny"
}

boot_changed if {
	some _ in input.context.attestation.boot.changed
	not data.settings.on_boot_change == "allow"
}

# Until the device has once booted what a baseline affirms, its certificates
# live no longer than settings.unaffirmed_lifetime; "" leaves them their profile's.
lifetimes contains unaffirmed if input.context.attestation.key.tpm_resident

lifetimes contains unaffirmed if input.context.bond.last

unaffirmed := lifetime if {
	not input.context.attestation.verdict == "affirming"
	not input.context.bond.affirmed
	lifetime := object.get(data.settings, "unaffirmed_lifetime", "4h")
	lifetime != ""
}

# A renewal without fresh evidence stands on evidence no older than
# settings.max_attestation_age, if that is set.
deny contains {"code": "attestation_too_old", "detail": detail} if {
	input.action.name == "certificate.renew"
	data.settings.max_attestation_age != ""
	not input.context.attestation.fresh
	allowed := time.parse_duration_ns(data.settings.max_attestation_age)
	time.parse_rfc3339_ns(input.context.time) - time.parse_rfc3339_ns(input.context.bond.last) > allowed
	detail := sprintf("the device attested last at %s; it has to send evidence again", [input.context.bond.last])
}
