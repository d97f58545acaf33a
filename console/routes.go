package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// route is one verb of the API: how it is called, which right it takes, and
// how a call becomes a deed.
type route struct {
	method, pattern string
	action          policy.Action
	plan            func(*Console, *call) (deed, error)
	patience        time.Duration // how long a permitted transfer may take; 0 keeps the server's limits

	// proof says who calls; nil: the operator's certificate or session does.
	proof func(*Console, *call) (operators.Caller, error)

	shape
}

// longTransfer is enough for 64 MiB up, or a database down, over a slow line.
const longTransfer = 15 * time.Minute

// longRehearsal is enough to check the largest bundle, and to ask anew what a large fleet asked in a week.
const longRehearsal = 15 * time.Minute

// writing is what the answer itself takes at most, after a long wait.
const writing = time.Minute

// routes is the whole API.
var routes = []route{
	{"POST", "/api/v1/tokens", policy.CreateToken, (*Console).createToken, 0, nil,
		makes[issuedToken]("Make an enrolment token. Its secret is in this answer and nowhere else.", mayHave[newToken]())},
	{"GET", "/api/v1/tokens", policy.ListTokens, (*Console).listTokens, 0, nil,
		lists[enroll.Token]("List enrolment tokens, newest first.", word("device", "tokens for this device"))},
	{"GET", "/api/v1/tokens/{id}", policy.ListTokens, (*Console).showToken, 0, nil, shows[enroll.Token]("Show one token, without its secret.")},
	{"DELETE", "/api/v1/tokens/{id}", policy.RevokeToken, (*Console).revokeToken, 0, nil,
		does("End a token. It stays in the list as revoked.", body{})},

	{"GET", "/api/v1/requests", policy.ListRequests, (*Console).listRequests, 0, nil,
		lists[enroll.Held]("List what policy holds or has held for a person, newest first: enrolments, and what operators have asked for.",
			oneOf("state", "requests in this state", enroll.Pending, enroll.Approved, enroll.Rejected, enroll.Issued, enroll.Used), word("device", "requests of this device"))},
	{"GET", "/api/v1/requests/{id}", policy.ShowRequest, (*Console).showRequest, 0, nil, shows[enroll.Held]("Show one held request.")},
	{"POST", "/api/v1/requests/{id}/approve", policy.ApproveRequest, (*Console).approveRequest, 0, nil,
		does("Let a held request through when it is asked again. An operator's own is for another one to approve.", mayHave[reasoned]())},
	{"POST", "/api/v1/requests/{id}/deny", policy.DenyRequest, (*Console).denyRequest, 0, nil,
		does("Refuse a held request. Whoever asked is told the reason, which has to be given.", mayHave[reasoned]())},

	{"POST", "/api/v1/devices/import", policy.ImportDevices, (*Console).importDevices, longTransfer, nil,
		changes[fleet.Imported]("Take devices into the register, from a CSV or JSON Lines file of up to 64 MiB.", body{kinds: []string{csvType, jsonlType}}).with(
			word("model", "only devices of this model are taken"), word("batch", "only devices of this batch are taken"))},
	{"GET", "/api/v1/devices", policy.ListDevices, (*Console).listDevices, 0, nil,
		lists[fleet.Device]("List devices, by id.", word("model", "devices of this model"), word("batch", "devices of this batch"),
			oneOf("state", "devices in this state", fleet.Expected, fleet.Active, fleet.Quarantined, fleet.Retired))},
	{"GET", "/api/v1/devices/{id}", policy.ShowDevice, (*Console).showDevice, 0, nil, shows[fleet.Device]("Show one device.")},
	{"POST", "/api/v1/devices/{id}/quarantine", policy.QuarantineDevice, (*Console).quarantineDevice, 0, nil,
		does("Stop a device until it is released. A reason has to be given.", mayHave[reasoned]())},
	{"POST", "/api/v1/devices/{id}/release", policy.ReleaseDevice, (*Console).releaseDevice, 0, nil,
		does("End a device's quarantine.", mayHave[reasoned]())},
	{"POST", "/api/v1/devices/{id}/retire", policy.RetireDevice, (*Console).retireDevice, 0, nil,
		does("End a device's life for good.", mayHave[reasoned]())},

	{"POST", "/api/v1/devices/{id}/unbind", policy.UnbindDevice, (*Console).unbindDevice, 0, nil,
		does("Forget the TPM that a device attested with. A reason has to be given.", mayHave[reasoned]())},
	{"GET", "/api/v1/devices/{id}/attestation", policy.ShowAttestation, (*Console).showAttestation, 0, nil,
		shows[shownAttestation]("Show a device's bond to a TPM, and the newest decision that evidence was part of.")},

	{"POST", "/api/v1/baselines", policy.AddBaseline, (*Console).addBaseline, 0, nil,
		makes[attest.Baseline]("Propose a baseline. It counts for nobody yet. What the server keeps of one is ignored.", body{of: attest.Baseline{}, needs: []string{"model", "pcrs"}})},
	{"POST", "/api/v1/baselines/learn", policy.LearnBaseline, (*Console).learnBaseline, 0, nil,
		makes[attest.Baseline]("Propose a baseline from the evidence that a device had accepted last, or was refused for.", wants[lesson]())},
	{"GET", "/api/v1/baselines", policy.ListBaselines, (*Console).listBaselines, 0, nil,
		lists[attest.Baseline]("List baselines, newest first.", word("model", "baselines for this model"),
			oneOf("state", "baselines in this state", attest.Draft, attest.Canary, attest.Active, attest.Deprecated, attest.Rejected))},
	{"GET", "/api/v1/baselines/{id}", policy.ShowBaseline, (*Console).showBaseline, 0, nil, shows[attest.Baseline]("Show one baseline.")},
	{"POST", "/api/v1/baselines/{id}/activate", policy.ActivateBaseline, (*Console).activateBaseline, 0, nil,
		changes[attest.Baseline]("Make a baseline count for its model, or as a canary for the devices of one label.", mayHave[activation]())},
	{"POST", "/api/v1/baselines/{id}/deprecate", policy.DeprecateBaseline, (*Console).deprecateBaseline, 0, nil,
		changes[attest.Baseline]("Accept a baseline with a warning from now on.", mayHave[reasoned]())},
	{"POST", "/api/v1/baselines/{id}/deny", policy.DenyBaseline, (*Console).denyBaseline, 0, nil,
		changes[attest.Baseline]("Refuse and quarantine whoever boots this, for good.", mayHave[reasoned]())},

	{"POST", "/api/v1/anchors", policy.AddAnchor, (*Console).addAnchor, 0, nil,
		makes[shownAnchor]("Trust one authority of a maker under one profile.", wants[newAnchor]())},
	{"GET", "/api/v1/anchors", policy.ListAnchors, (*Console).listAnchors, 0, nil,
		lists[shownAnchor]("List the authorities that are trusted.", word("profile", "anchors of this profile"),
			oneOf("kind", "anchors of this kind", enroll.IDevID, enroll.EK, enroll.AK))},
	{"DELETE", "/api/v1/anchors/{id}", policy.RemoveAnchor, (*Console).removeAnchor, 0, nil,
		does("End the trust in an authority.", body{}).with(word("profile", "only under this profile; otherwise under all"))},

	{"GET", "/api/v1/certificates", policy.ListCertificates, (*Console).listCertificates, 0, nil,
		lists[shownCertificate]("List issued certificates, newest first.", word("device", "certificates of this device"),
			word("profile", "certificates of this profile"), oneOf("valid", "true: only those that are valid now and not revoked", "true", "false"), oneOf("revoked", "only those that are revoked, or only those that are not", "true", "false"))},
	{"GET", "/api/v1/certificates/{serial}", policy.ShowCertificate, (*Console).showCertificate, 0, nil,
		shows[shownCertificate]("Show one certificate, with its PEM.")},
	{"POST", "/api/v1/certificates/{serial}/revoke", policy.RevokeCertificate, (*Console).revokeCertificate, 0, nil,
		changes[revoked]("Revoke one certificate, for good. Where its key is compromised, all others over that key along with it. What was revoked before stays as it was.", wants[certificateRevocation]())},
	{"POST", "/api/v1/certificates/revoke", policy.RevokeCertificate, (*Console).revokeCertificates, 0, nil,
		changes[revoked]("Revoke all certificates of a device that have not expired, and quarantine it; or all over a key, which is never certified again.", body{of: revocationTarget{}, needs: []string{"reason"}})},

	{"GET", "/api/v1/decisions", policy.ListDecisions, (*Console).listDecisions, 0, nil,
		lists[shownDecision]("List decisions, newest first.", word("action", "decisions on this action"), word("actor", "decisions on what this one asked"),
			word("device", "decisions about this device"), oneOf("verdict", "decisions that went this way", policy.Allow.String(), policy.Hold.String(), policy.Deny.String()),
			when("since", "decisions from then on"), when("until", "decisions before then"))},
	{"GET", "/api/v1/decisions/events", policy.ReadRecord, (*Console).listEvents, 0, nil,
		lists[decisionlog.Event]("List decisions, newest first, as OPA's decision log tells of them: masked, and without those that rules keep out of it.",
			word("action", "decisions on this action"), word("actor", "decisions on what this one asked"),
			word("device", "decisions about this device"), oneOf("verdict", "decisions that went this way", policy.Allow.String(), policy.Hold.String(), policy.Deny.String()),
			when("since", "decisions from then on"), when("until", "decisions before then"))},
	{"GET", "/api/v1/decisions/{id}/event", policy.ShowDecision, (*Console).showEvent, 0, nil,
		shows[decisionlog.Event]("Show one decision as OPA's decision log tells of it: masked.")},
	{"GET", "/api/v1/decisions/{id}", policy.ShowDecision, (*Console).showDecision, 0, nil,
		shows[shownDecision]("Show one decision with its input, the digest of the policy, and the reasons.")},
	{"GET", "/api/v1/decisions/{id}/explanation", policy.ExplainPolicy, (*Console).explainDecision, 0, nil,
		shows[explanation]("Ask the rules that took a decision once more: which fired, which came near, and the smallest change that would have been allowed.").with(
			oneOf("rules", "whose: of the decision if it is not said, else those in force", inForce))},

	{"GET", "/api/v1/audit/entries", policy.ReadRecord, (*Console).listEntries, 0, nil,
		lists[shownEntry]("List the record, newest first.", word("action", "entries of this action"), word("actor", "entries of what this one did"),
			word("object", "entries about this"), oneOf("outcome", "entries with this outcome", audit.Granted, audit.Refused, audit.Held, audit.Done),
			when("since", "entries from then on"), when("until", "entries before then"))},
	{"GET", "/api/v1/audit/export", policy.ReadRecord, (*Console).exportRecord, longTransfer, nil,
		sends("The whole record as one file that can be verified offline.", audit.ExportType, "Content-Disposition")},
	{"GET", "/api/v1/audit/proof/{name}", policy.ReadRecord, (*Console).proveEntry, 0, nil,
		shows[audit.WrittenProof]("Prove that the record holds an entry, by its id or by the serial of the certificate that it issued.")},
	{"GET", "/log/tile/entries/{path...}", policy.ReadRecord, (*Console).entryBundle, 0, nil,
		sends("A bundle of the record's entries (C2SP tlog-tiles).", audit.TileType)},

	{"POST", "/api/v1/operators", policy.AddOperator, (*Console).addOperator, 0, nil,
		makes[certifiedOperator]("Take an operator into the register, and certify their key.", wants[newOperator]())},
	{"GET", "/api/v1/operators", policy.ListOperators, (*Console).listOperators, 0, nil,
		lists[operators.Operator]("List operators, by name.", oneOf("state", "operators in this state", operators.Active, operators.Suspended, operators.Removed))},
	{"GET", "/api/v1/operators/{name}", policy.ShowOperator, (*Console).showOperator, 0, nil,
		shows[operators.Operator]("Show one operator, with the last 100 certificates.")},
	{"PUT", "/api/v1/operators/{name}/roles", policy.AssignOperator, (*Console).assignOperator, 0, nil,
		does("Give an operator other roles, in place of those there are.", wants[newRoles]())},
	{"POST", "/api/v1/operators/{name}/suspend", policy.SuspendOperator, (*Console).suspendOperator, 0, nil,
		does("Keep an operator out until resumed.", mayHave[reasoned]())},
	{"POST", "/api/v1/operators/{name}/resume", policy.ResumeOperator, (*Console).resumeOperator, 0, nil,
		does("Let an operator in again.", mayHave[reasoned]())},
	{"POST", "/api/v1/operators/{name}/remove", policy.RemoveOperator, (*Console).removeOperator, 0, nil,
		does("Keep an operator out for good, and revoke every certificate.", mayHave[reasoned]())},
	{"POST", "/api/v1/operators/{name}/certify", policy.CertifyOperator, (*Console).certifyOperator, 0, nil,
		changes[issuedOperator]("Certify another key of an operator, such as of somebody who lost theirs.", wants[request]())},
	{"POST", "/api/v1/operators/{name}/renew", policy.RenewOperator, (*Console).renewOperator, 0, nil,
		changes[issuedOperator]("Certify another key of oneself, by the certificate held.", wants[request]())},
	{"POST", "/api/v1/operators/{name}/revoke", policy.RevokeOperator, (*Console).revokeOperator, 0, nil,
		does("Revoke one certificate of an operator, or all.", wants[operatorRevocation]())},

	{"PUT", "/api/v1/operators/{name}/oidc", policy.AssignOperator, (*Console).bindOperator, 0, nil,
		does("Say by what the identity provider knows an operator, or by nothing. Their sessions end.", wants[newBinding]())},

	{"GET", "/api/v1/session", policy.ShowSession, (*Console).showSession, 0, nil, shows[whoIs]("Show who one is to this server: operator, roles, and how one has proven it.")},
	{"GET", "/api/v1/sessions", policy.ListSessions, (*Console).listSessions, 0, nil,
		lists[shownSession]("List who is signed in, newest first.", word("operator", "sessions of this operator, * for all; one's own if it is not said"))},
	{"DELETE", "/api/v1/sessions/{id}", policy.EndSession, (*Console).endSession, 0, nil, does("Sign a session out, everywhere and at once.", body{})},
	{"POST", "/api/v1/logout", policy.EndSession, (*Console).logout, 0, nil, does("End the session that this call bears.", body{})},
	{"POST", "/api/v1/login/token", policy.CreateSession, (*Console).createSession, 0, (*Console).byCode,
		makes[issuedSession]("Fetch the session of a command line with the code that the browser has brought.", wants[loginCode]())},
	{"POST", "/api/v1/login/device/token", policy.CreateSession, (*Console).createDeviceSession, 0, (*Console).byDevice,
		makes[issuedSession]("Fetch the session of a command line whose code was typed elsewhere; authorization_pending until that is done.", wants[deviceHandle]())},

	{"GET", "/api/v1/policy", policy.ShowPolicy, (*Console).showPolicy, 0, nil, shows[release.Force]("Show which rules are in force here.")},
	{"GET", "/api/v1/policy/actions", policy.ShowPolicy, (*Console).listActions, 0, nil, shows[knownActions]("List all actions that rules are asked about, with the JSON schema of each one's input.")},
	{"GET", "/api/v1/policy/bundle", policy.FetchPolicy, (*Console).fetchBundle, longestWait + writing, nil,
		sends("The rules in force, as an OPA bundle (tar.gz) that this server has signed, for gateways.", bundleType, "Content-Disposition", "ETag").orAs(longPollType).hearing(
			word("Prefer", "wait=SECONDS, as OPA's agents send it: who has the rules in force is answered when others are, or after that time; up to 300"))},
	{"GET", "/api/v1/policy/key", policy.FetchPolicy, (*Console).policyKey, 0, nil,
		shows[release.VerificationKey]("The public key that verifies the signed bundle.")},
	{"GET", "/api/v1/policy/revisions", policy.PolicyHistory, (*Console).policyHistory, 0, nil,
		lists[release.Revision]("List everything that was ever put in force, newest first.")},
	{"GET", "/api/v1/policy/revisions/{revision}/bundle", policy.ShowPolicy, (*Console).fetchRevision, 0, nil,
		sends("The rules of one revision, by number, or of the current one, as an OPA bundle (tar.gz).", bundleType, "Content-Disposition")},
	{"POST", "/api/v1/policy/proposals", policy.ProposePolicy, (*Console).proposePolicy, longRehearsal, nil,
		makes[release.Proposal]("Propose rules: an OPA bundle (tar.gz) of up to 8 MiB. Rules that do not pass the checks are answered policy_refused, with problems.",
			body{kinds: []string{bundleType}}).with(word("base", "digest of the rules started from"), word("note", "what the change is for"))},
	{"GET", "/api/v1/policy/proposals", policy.ListPolicies, (*Console).listProposals, 0, nil,
		lists[release.Proposal]("List proposals, newest first, without differences.", word("author", "proposals by this operator"),
			oneOf("state", "proposals in this state", release.Open, release.Approved, release.Shadow, release.Staged, release.Active,
				release.Rejected, release.Withdrawn, release.Superseded, release.FallenBack, release.RolledBack))},
	{"GET", "/api/v1/policy/proposals/{id}", policy.ShowPolicy, (*Console).showProposal, 0, nil,
		shows[release.Proposal]("Show one proposal, with its report, its replay and what its trial came to.")},
	{"GET", "/api/v1/policy/proposals/{id}/bundle", policy.ShowPolicy, (*Console).fetchProposal, 0, nil,
		sends("The rules of a proposal, as an OPA bundle (tar.gz).", bundleType, "Content-Disposition")},
	{"POST", "/api/v1/policy/proposals/{id}/replay", policy.ReplayPolicy, (*Console).replayProposal, 0, nil,
		makes[release.Rehearsal]("Begin to ask proposed rules again what was decided, and what every device and operator would ask next. One proposal is replayed at a time.", mayHave[rehearsal]())},
	{"GET", "/api/v1/policy/proposals/{id}/replay", policy.ShowPolicy, (*Console).showReplay, 0, nil,
		shows[release.Rehearsal]("Show how far the last replay of a proposal is, or how it ended.")},
	{"DELETE", "/api/v1/policy/proposals/{id}/replay", policy.ReplayPolicy, (*Console).cancelReplay, 0, nil,
		changes[release.Rehearsal]("Cancel the replay of a proposal, which stays as it was.", body{})},
	{"GET", "/api/v1/policy/proposals/{id}/differences", policy.ShowPolicy, (*Console).listDifferences, 0, nil,
		lists[release.Listed]("List what proposed rules answer differently, one by one: the gravest class first, by action, reason and resource.",
			oneOf("of", "of these questions alone", release.Parts()...), oneOf("class", "differences of this class", release.Classes()...),
			word("action", "differences about this action"), word("code", "refused or held by the proposed rules for this reason"),
			word("resource", "differences about this, a device mostly"))},
	{"POST", "/api/v1/policy/proposals/{id}/approve", policy.ApprovePolicy, (*Console).approveProposal, 0, nil,
		changes[release.Proposal]("Agree to a proposal. Nobody approves their own.", mayHave[vote]())},
	{"POST", "/api/v1/policy/proposals/{id}/reject", policy.RejectPolicy, (*Console).rejectProposal, 0, nil,
		changes[release.Proposal]("End a proposal, on trial or not.", mayHave[reasoned]())},
	{"POST", "/api/v1/policy/proposals/{id}/withdraw", policy.WithdrawPolicy, (*Console).withdrawProposal, 0, nil,
		changes[release.Proposal]("End a proposal of one's own.", mayHave[reasoned]())},
	{"POST", "/api/v1/policy/proposals/{id}/activate", policy.ActivatePolicy, (*Console).activateProposal, 0, nil,
		changes[release.Proposal]("Put a proposal on a stage: beside the rules in force, for a part of the devices, or in force.", mayHave[enactment]())},
	{"POST", "/api/v1/policy/rollback", policy.RollbackPolicy, (*Console).rollbackPolicy, 0, nil,
		changes[release.Revision]("Put an earlier revision in force again.", mayHave[wayBack]())},

	{"POST", "/api/v1/breakglass", policy.SealBreakglass, (*Console).sealBreakglass, 0, nil,
		shape{says: "Seal a break-glass key, in place of the one sealed before.", takes: wants[newSeal](), gives: body{status: http.StatusCreated, of: operators.Seal{}}}},
	{"POST", "/api/v1/breakglass/open", policy.OpenBreakglass, (*Console).openBreakglass, 0, (*Console).byHalves,
		changes[openedSeal]("Open break-glass. The key in the body is the proof, no certificate is asked for.", wants[opening]())},

	{"POST", "/api/v1/backup", policy.CreateBackup, (*Console).createBackup, longTransfer, nil,
		sends("Everything that a new machine needs, as a tar.gz.", "application/gzip", "Content-Disposition", BackupDatabaseHeader)},
}

// publicRoute is a path that anybody may read: it tells nothing of what the server holds.
type publicRoute struct {
	method, pattern string
	answer          func(*Console, *call) (answer, error)
	shape
}

// publicRoutes are the parts of the audit log that prove its consistency and
// reveal none of its entries (C2SP tlog-tiles), the way in for who has no certificate, and the description of the API.
var publicRoutes = []publicRoute{
	{"GET", "/log/checkpoint", (*Console).checkpoint, sends("The log's newest signed checkpoint.", audit.CheckpointType)},
	{"GET", "/log/tile/{path...}", (*Console).hashTile, sends("A tile of hashes (C2SP tlog-tiles).", audit.TileType)},
	{"GET", "/api/v1/login", (*Console).login, loginShape},
	{"GET", "/api/v1/login/callback", (*Console).loginEnds, callbackShape},
	{"POST", "/api/v1/login/device", (*Console).deviceLogin, changes[oidc.Device]("Begin a sign-in by a code that is typed in a browser elsewhere (RFC 8628).", body{})},
	{"GET", "/api/v1/openapi.json", (*Console).document, sends("This document.", jsonType, "ETag")},
}

// open answers where nobody has to say who they are.
func (c *Console) open(action string, do func(*Console, *call) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		call := &call{Request: r, body: w, at: c.Now(), requestID: w.Header().Get(requestIDHeader)}
		var a answer
		err := c.throttle(callerIP(r), "")
		if err == nil {
			a, err = do(c, call)
		}
		c.settle(w, r, action, call.caller, a, err)
	}
}

// none answers a call that no route is for.
func (c *Console) none(w http.ResponseWriter, r *http.Request, err error) {
	c.open(None, func(*Console, *call) (answer, error) { return answer{}, err })(w, r)
}

var errNoSuchPath = fault.New(fault.NotFound, "no_such_path", "there is nothing at this path")

// nowhere answers what no route does: 405 if another method would do, else 404.
func (c *Console) nowhere(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, method := range []string{"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := c.mux.Handler(other); pattern != "/" {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		c.none(w, r, errNoSuchPath)
		return
	}
	w.Header().Set("Allow", strings.Join(methods, ", ")) // RFC 9110, Section 15.5.6
	c.none(w, r, fault.New(fault.Malformed, codeMethod, "this path does not take "+printable(r.Method)))
}
