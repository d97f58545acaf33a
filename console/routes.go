package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

// route is one verb of the API: how it is called, which right it takes, and
// how a call becomes a deed.
type route struct {
	method, pattern string
	action          policy.Action
	plan            func(*Console, *call) (deed, error)
	patience        time.Duration // how long a permitted transfer may take; 0 keeps the server's limits

	// proof says who calls; nil: the operator's certificate does.
	proof func(*Console, *call) (operators.Caller, error)
}

// longTransfer is enough for 64 MiB up, or a database down, over a slow line.
const longTransfer = 15 * time.Minute

// longRehearsal is enough to check the largest bundle, and to ask anew what a large fleet asked in a week.
const longRehearsal = 15 * time.Minute

// routes is the whole API.
var routes = []route{
	{"POST", "/api/v1/tokens", policy.CreateToken, (*Console).createToken, 0, nil},
	{"GET", "/api/v1/tokens", policy.ListTokens, (*Console).listTokens, 0, nil},
	{"GET", "/api/v1/tokens/{id}", policy.ListTokens, (*Console).showToken, 0, nil},
	{"DELETE", "/api/v1/tokens/{id}", policy.RevokeToken, (*Console).revokeToken, 0, nil},

	{"GET", "/api/v1/requests", policy.ListRequests, (*Console).listRequests, 0, nil},
	{"GET", "/api/v1/requests/{id}", policy.ShowRequest, (*Console).showRequest, 0, nil},
	{"POST", "/api/v1/requests/{id}/approve", policy.ApproveRequest, (*Console).approveRequest, 0, nil},
	{"POST", "/api/v1/requests/{id}/deny", policy.DenyRequest, (*Console).denyRequest, 0, nil},

	{"POST", "/api/v1/devices/import", policy.ImportDevices, (*Console).importDevices, longTransfer, nil},
	{"GET", "/api/v1/devices", policy.ListDevices, (*Console).listDevices, 0, nil},
	{"GET", "/api/v1/devices/{id}", policy.ShowDevice, (*Console).showDevice, 0, nil},
	{"POST", "/api/v1/devices/{id}/quarantine", policy.QuarantineDevice, (*Console).quarantineDevice, 0, nil},
	{"POST", "/api/v1/devices/{id}/release", policy.ReleaseDevice, (*Console).releaseDevice, 0, nil},
	{"POST", "/api/v1/devices/{id}/retire", policy.RetireDevice, (*Console).retireDevice, 0, nil},

	{"POST", "/api/v1/devices/{id}/unbind", policy.UnbindDevice, (*Console).unbindDevice, 0, nil},
	{"GET", "/api/v1/devices/{id}/attestation", policy.ShowAttestation, (*Console).showAttestation, 0, nil},

	{"POST", "/api/v1/baselines", policy.AddBaseline, (*Console).addBaseline, 0, nil},
	{"POST", "/api/v1/baselines/learn", policy.LearnBaseline, (*Console).learnBaseline, 0, nil},
	{"GET", "/api/v1/baselines", policy.ListBaselines, (*Console).listBaselines, 0, nil},
	{"GET", "/api/v1/baselines/{id}", policy.ShowBaseline, (*Console).showBaseline, 0, nil},
	{"POST", "/api/v1/baselines/{id}/activate", policy.ActivateBaseline, (*Console).activateBaseline, 0, nil},
	{"POST", "/api/v1/baselines/{id}/deprecate", policy.DeprecateBaseline, (*Console).deprecateBaseline, 0, nil},
	{"POST", "/api/v1/baselines/{id}/deny", policy.DenyBaseline, (*Console).denyBaseline, 0, nil},

	{"POST", "/api/v1/anchors", policy.AddAnchor, (*Console).addAnchor, 0, nil},
	{"GET", "/api/v1/anchors", policy.ListAnchors, (*Console).listAnchors, 0, nil},
	{"DELETE", "/api/v1/anchors/{id}", policy.RemoveAnchor, (*Console).removeAnchor, 0, nil},

	{"GET", "/api/v1/certificates", policy.ListCertificates, (*Console).listCertificates, 0, nil},
	{"GET", "/api/v1/certificates/{serial}", policy.ShowCertificate, (*Console).showCertificate, 0, nil},

	{"GET", "/api/v1/decisions", policy.ListDecisions, (*Console).listDecisions, 0, nil},
	{"GET", "/api/v1/decisions/{id}", policy.ShowDecision, (*Console).showDecision, 0, nil},

	{"GET", "/api/v1/audit/entries", policy.ReadRecord, (*Console).listEntries, 0, nil},
	{"GET", "/api/v1/audit/export", policy.ReadRecord, (*Console).exportRecord, longTransfer, nil},
	{"GET", "/api/v1/audit/proof/{name}", policy.ReadRecord, (*Console).proveEntry, 0, nil},
	{"GET", "/log/tile/entries/{path...}", policy.ReadRecord, (*Console).entryBundle, 0, nil},

	{"POST", "/api/v1/operators", policy.AddOperator, (*Console).addOperator, 0, nil},
	{"GET", "/api/v1/operators", policy.ListOperators, (*Console).listOperators, 0, nil},
	{"GET", "/api/v1/operators/{name}", policy.ShowOperator, (*Console).showOperator, 0, nil},
	{"PUT", "/api/v1/operators/{name}/roles", policy.AssignOperator, (*Console).assignOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/suspend", policy.SuspendOperator, (*Console).suspendOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/resume", policy.ResumeOperator, (*Console).resumeOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/remove", policy.RemoveOperator, (*Console).removeOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/certify", policy.CertifyOperator, (*Console).certifyOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/renew", policy.RenewOperator, (*Console).renewOperator, 0, nil},
	{"POST", "/api/v1/operators/{name}/revoke", policy.RevokeOperator, (*Console).revokeOperator, 0, nil},

	{"GET", "/api/v1/policy", policy.ShowPolicy, (*Console).showPolicy, 0, nil},
	{"GET", "/api/v1/policy/bundle", policy.ShowPolicy, (*Console).fetchPolicy, 0, nil},
	{"GET", "/api/v1/policy/revisions", policy.PolicyHistory, (*Console).policyHistory, 0, nil},
	{"GET", "/api/v1/policy/revisions/{revision}/bundle", policy.ShowPolicy, (*Console).fetchRevision, 0, nil},
	{"POST", "/api/v1/policy/proposals", policy.ProposePolicy, (*Console).proposePolicy, longRehearsal, nil},
	{"GET", "/api/v1/policy/proposals", policy.ListPolicies, (*Console).listProposals, 0, nil},
	{"GET", "/api/v1/policy/proposals/{id}", policy.ShowPolicy, (*Console).showProposal, 0, nil},
	{"GET", "/api/v1/policy/proposals/{id}/bundle", policy.ShowPolicy, (*Console).fetchProposal, 0, nil},
	{"POST", "/api/v1/policy/proposals/{id}/replay", policy.ReplayPolicy, (*Console).replayProposal, longRehearsal, nil},
	{"POST", "/api/v1/policy/proposals/{id}/approve", policy.ApprovePolicy, (*Console).approveProposal, 0, nil},
	{"POST", "/api/v1/policy/proposals/{id}/reject", policy.RejectPolicy, (*Console).rejectProposal, 0, nil},
	{"POST", "/api/v1/policy/proposals/{id}/withdraw", policy.WithdrawPolicy, (*Console).withdrawProposal, 0, nil},
	{"POST", "/api/v1/policy/proposals/{id}/activate", policy.ActivatePolicy, (*Console).activateProposal, 0, nil},
	{"POST", "/api/v1/policy/rollback", policy.RollbackPolicy, (*Console).rollbackPolicy, 0, nil},

	{"POST", "/api/v1/breakglass", policy.SealBreakglass, (*Console).sealBreakglass, 0, nil},
	{"POST", "/api/v1/breakglass/open", policy.OpenBreakglass, (*Console).openBreakglass, 0, (*Console).byHalves},

	{"POST", "/api/v1/backup", policy.CreateBackup, (*Console).createBackup, longTransfer, nil},
}

// publicRoute is a path that anybody may read: it says nothing but hashes.
type publicRoute struct {
	method, pattern string
	answer          func(*Console, *http.Request) (answer, error)
}

// publicRoutes are the parts of the audit log that prove its consistency and
// reveal none of its entries (C2SP tlog-tiles).
var publicRoutes = []publicRoute{
	{"GET", "/log/checkpoint", (*Console).checkpoint},
	{"GET", "/log/tile/{path...}", (*Console).hashTile},
}

// open answers where nobody has to say who they are.
func (c *Console) open(action string, do func(*Console, *http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var a answer
		err := c.throttle(callerIP(r), "")
		if err == nil {
			a, err = do(c, r)
		}
		c.settle(w, r, action, operators.Caller{}, a, err)
	}
}

// none answers a call that no route is for.
func (c *Console) none(w http.ResponseWriter, r *http.Request, err error) {
	c.open(None, func(*Console, *http.Request) (answer, error) { return answer{}, err })(w, r)
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
