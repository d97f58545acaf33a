package policy

import (
	"maps"
	"slices"
)

// Action is one thing that can be asked, as noun.verb. The list below is
// closed: Decide refuses any other name.
type Action string

// What devices ask.
const (
	IssueCertificate Action = "certificate.issue"
	RenewCertificate Action = "certificate.renew"
	AttestDevice     Action = "device.attest"       // shows its state between renewals
	CertifyAK        Action = "attestation.certify" // a certificate of its attestation key
)

// What operators ask.
const (
	ListCertificates Action = "certificate.list"
	ShowCertificate  Action = "certificate.show"

	RevokeCertificate Action = "certificate.revoke" // one, all of a device, or all over a key

	CreateToken Action = "token.create"
	ListTokens  Action = "token.list"
	RevokeToken Action = "token.revoke"

	ListRequests   Action = "request.list"
	ShowRequest    Action = "request.show"
	ApproveRequest Action = "request.approve"
	DenyRequest    Action = "request.deny"

	ImportDevices    Action = "device.import"
	ListDevices      Action = "device.list"
	ShowDevice       Action = "device.show"
	QuarantineDevice Action = "device.quarantine"
	ReleaseDevice    Action = "device.release"
	RetireDevice     Action = "device.retire"
	UnbindDevice     Action = "device.unbind" // forget the TPM that it attested with

	ShowAttestation   Action = "attestation.show"
	AddBaseline       Action = "baseline.add"
	LearnBaseline     Action = "baseline.learn"
	ListBaselines     Action = "baseline.list"
	ShowBaseline      Action = "baseline.show"
	ActivateBaseline  Action = "baseline.activate" // to canary or active
	DeprecateBaseline Action = "baseline.deprecate"
	DenyBaseline      Action = "baseline.deny"

	AddAnchor    Action = "anchor.add"
	ListAnchors  Action = "anchor.list"
	RemoveAnchor Action = "anchor.remove"

	ListDecisions Action = "decision.list"
	ShowDecision  Action = "decision.show"

	ShowPolicy     Action = "policy.show"    // the rules in force, a revision, or one proposal
	FetchPolicy    Action = "policy.fetch"   // the rules in force, signed, for gateways
	ListPolicies   Action = "policy.list"    // proposals
	PolicyHistory  Action = "policy.history" // revisions
	ExplainPolicy  Action = "policy.explain" // which rules made a decision
	ProposePolicy  Action = "policy.propose"
	ReplayPolicy   Action = "policy.replay" // what a proposal would have decided; kept with it
	ApprovePolicy  Action = "policy.approve"
	RejectPolicy   Action = "policy.reject"
	WithdrawPolicy Action = "policy.withdraw" // by its author
	ActivatePolicy Action = "policy.activate" // to shadow, to a share, or whole
	RollbackPolicy Action = "policy.rollback" // to an earlier revision

	AddOperator     Action = "operator.add"
	ListOperators   Action = "operator.list"
	ShowOperator    Action = "operator.show"
	AssignOperator  Action = "operator.assign" // other roles
	SuspendOperator Action = "operator.suspend"
	ResumeOperator  Action = "operator.resume"
	RemoveOperator  Action = "operator.remove"
	CertifyOperator Action = "operator.certify" // another certificate for somebody who lost theirs
	RenewOperator   Action = "operator.renew"   // another certificate for the one held
	RevokeOperator  Action = "operator.revoke"  // one certificate, or all

	CreateSession Action = "session.create" // sign in by the identity provider
	ShowSession   Action = "session.show"   // who one is to this server
	ListSessions  Action = "session.list"
	EndSession    Action = "session.end" // sign out, or sign somebody out

	SealBreakglass Action = "breakglass.seal"
	OpenBreakglass Action = "breakglass.open"

	ReadRecord   Action = "audit.read"
	CreateBackup Action = "backup.create"
)

// actions tells of each Action whether it only reads. An allowed read is
// recorded by Decide itself; an allowed change is recorded with the change.
var actions = map[Action]struct{ reads bool }{
	IssueCertificate: {}, RenewCertificate: {}, AttestDevice: {}, CertifyAK: {},
	ListCertificates: {reads: true}, ShowCertificate: {reads: true}, RevokeCertificate: {},
	CreateToken: {}, ListTokens: {reads: true}, RevokeToken: {},
	ListRequests: {reads: true}, ShowRequest: {reads: true}, ApproveRequest: {}, DenyRequest: {},
	ImportDevices: {}, ListDevices: {reads: true}, ShowDevice: {reads: true},
	QuarantineDevice: {}, ReleaseDevice: {}, RetireDevice: {}, UnbindDevice: {},
	ShowAttestation: {reads: true}, AddBaseline: {}, LearnBaseline: {}, ListBaselines: {reads: true}, ShowBaseline: {reads: true},
	ActivateBaseline: {}, DeprecateBaseline: {}, DenyBaseline: {},
	AddAnchor: {}, ListAnchors: {reads: true}, RemoveAnchor: {},
	ListDecisions: {reads: true}, ShowDecision: {reads: true},
	ShowPolicy: {reads: true}, FetchPolicy: {reads: true}, ListPolicies: {reads: true}, PolicyHistory: {reads: true}, ExplainPolicy: {reads: true},
	ProposePolicy: {}, ReplayPolicy: {}, ApprovePolicy: {}, RejectPolicy: {}, WithdrawPolicy: {}, ActivatePolicy: {}, RollbackPolicy: {},
	AddOperator: {}, ListOperators: {reads: true}, ShowOperator: {reads: true}, AssignOperator: {}, SuspendOperator: {}, ResumeOperator: {},
	RemoveOperator: {}, CertifyOperator: {}, RenewOperator: {}, RevokeOperator: {},
	CreateSession: {}, ShowSession: {reads: true}, ListSessions: {reads: true}, EndSession: {},
	SealBreakglass: {}, OpenBreakglass: {},
	ReadRecord: {reads: true}, CreateBackup: {reads: true},
}

// Actions returns the whole list, sorted.
func Actions() []Action { return slices.Sorted(maps.Keys(actions)) }

// Known reports whether a is on the list.
func (a Action) Known() bool { _, ok := actions[a]; return ok }

// Reads reports whether a changes nothing.
func (a Action) Reads() bool { return actions[a].reads }

// OperatorActions returns the actions that people ask, in alphabetical order: all but those of devices.
func OperatorActions() []Action {
	var all []Action
	for a := range actions {
		switch a {
		case IssueCertificate, RenewCertificate, AttestDevice, CertifyAK:
		default:
			all = append(all, a)
		}
	}
	slices.Sort(all)
	return all
}
