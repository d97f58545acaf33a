# Where rules come from. A bundle server that config.yaml names (policy.source) is
# an author like anybody: what it has signed becomes a proposal, which people
# replay, approve and activate.
package hallmark

# METADATA
# title: Bundle servers propose
# description: Take this rule out, and rules come from people only.
allow if {
	input.subject.type == "service"
	startswith(input.subject.id, "bundle:")
	input.action.name == "policy.propose"
}
