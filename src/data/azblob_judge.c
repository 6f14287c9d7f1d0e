/* azblob_judge.c - Azure Blob: what an answer means, as a sentence
 *
 * The code of an error is in a header also where an answer has no body (HEAD).  Of what the service says in words only the
 * first line of its message is passed on, and never more than that: details repeat what was signed.
 */
#include "base/clock.h"
#include "base/error.h"
#include "data/azblob_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <string.h>

#define DELETED_AGAIN_MS 5000

struct saying {
    char code[64], message[200], detail[100]; /* "" where it does not say */
};

static void keep_line(char *to, size_t max, const char *text)
{
    size_t n = strcspn(text, "\r\n");
    char *sig;

    n = n < max ? n : ty_utf8_whole(text, max - 1);
    snprintf(to, max, "%.*s", (int)n, text);
    sig = strstr(to, "sig=");
    if (sig)
        *sig = '\0';
}

static int error_element(const char *path, const char *text, void *ctx)
{
    struct saying *s = ctx;

    if (strcmp(path, "Error/Code") == 0)
        keep_line(s->code, sizeof s->code, text);
    else if (strcmp(path, "Error/Message") == 0)
        keep_line(s->message, sizeof s->message, text);
    else if (strcmp(path, "Error/AuthenticationErrorDetail") == 0)
        keep_line(s->detail, sizeof s->detail, text);
    return 0;
}

enum then {
    PLAIN,  /* the clause is all */
    WHO,    /* the service does not know who asks */
    RIGHT,  /* it knows, and does not allow it */
    DENIED, /* Azure: by a rule of the network; emulators: a wrong signature */
    MATCH,  /* of If-Match or of If-None-Match */
    AGAIN
};

static const struct rule {
    const char *code;
    int result;
    enum then then;
    const char *clause;
} rules[] = {
    { "AuthenticationFailed", -EACCES, WHO, "" },
    { "InvalidAuthenticationInfo", -EACCES, WHO, "" },
    { "NoAuthenticationInformation", -EACCES, WHO, "" },
    { "AuthorizationFailure", -EACCES, DENIED, "" },
    { "AuthorizationPermissionMismatch", -EACCES, RIGHT, "" },
    { "InsufficientAccountPermissions", -EACCES, RIGHT, "" },
    { "AuthorizationResourceTypeMismatch", -EACCES, PLAIN,
      "the SAS is not for this kind of thing: a SAS of an account needs srt=co (containers and objects)" },
    { "AuthorizationServiceMismatch", -EACCES, PLAIN,
      "the SAS is for another service: it needs ss=b (blobs)" },
    { "AuthorizationProtocolMismatch", -EACCES, PLAIN,
      "the SAS is for https alone: register the datastore with protocol 'https'" },
    { "AuthorizationSourceIPMismatch", -EACCES, PLAIN,
      "the SAS is for other addresses (sip) than the one of this machine" },
    { "KeyBasedAuthenticationNotPermitted", -EACCES, PLAIN,
      "the account does not allow its keys to be used: allow 'storage account key access', or register the datastore with a SAS" },
    { "PublicAccessNotPermitted", -EACCES, WHO, "" },
    { "AccountIsDisabled", -EACCES, PLAIN, "the storage account is disabled" },
    { "ContainerDisabled", -EACCES, PLAIN, "the container has been disabled by its administrator" },
    { "AccountBeingCreated", -EAGAIN, AGAIN, "the account is being created" },
    { "ContainerNotFound", -ENODEV, PLAIN,
      "there is no such container: check container_name, or register the datastore with create_if_not_exists (--create)" },
    { "ContainerBeingDeleted", -EAGAIN, AGAIN,
      "the container is being deleted, which takes up to a minute: make it again after that" },
    { "BlobNotFound", -ENOENT, PLAIN, "there is no such blob" },
    { "ResourceNotFound", -ENOENT, PLAIN,
      "there is no such container or blob, or it may not be read without a key" },
    { "ContainerAlreadyExists", -EEXIST, PLAIN, "it is there already" },
    { "BlobAlreadyExists", -EEXIST, MATCH, "" },
    { "UnauthorizedBlobOverwrite", -EEXIST, PLAIN,
      "there is such a blob already, and the SAS allows to create but not to overwrite (sp needs 'w')" },
    { "ConditionNotMet", 0, MATCH, "" },
    { "TargetConditionNotMet", 0, MATCH, "" },
    { "Md5Mismatch", -EBADMSG, PLAIN, "what arrived is not what was sent: its MD5 is another one" },
    { "InvalidMd5", -EBADMSG, PLAIN, "the service does not accept the MD5" },
    { "InvalidBlockList", -ESTALE, PLAIN,
      "a block of the upload is not there any more: somebody else has written this blob meanwhile" },
    { "InvalidBlobOrBlock", -EBUSY, PLAIN,
      "another tool has begun an upload of this blob and not ended it, with names of blocks that ours do not go with: end it there, "
      "or remove or overwrite the blob with that tool; Azure forgets it a week after it was begun" },
    { "InvalidBlockId", -EBUSY, PLAIN,
      "another tool has begun an upload of this blob and not ended it: end it there, or wait a week" },
    { "BlockCountExceedsLimit", -EBUSY, PLAIN,
      "too many blocks of unfinished uploads wait at this blob: wait a week, or upload under another name" },
    { "InvalidBlobType", -EEXIST, PLAIN,
      "there is a page or append blob of that name, which this cannot write: remove it first" },
    { "BlobOperationNotSupported", -EOPNOTSUPP, PLAIN,
      "the blob was made by another interface (Data Lake) and cannot be written by this one" },
    { "BlobArchived", -EACCES, PLAIN,
      "the blob lies in the archive tier: rehydrate it first (set its tier to Hot or Cool, which takes hours)" },
    { "BlobBeingRehydrated", -EACCES, PLAIN,
      "the blob is on its way out of the archive tier, which takes hours: try again later" },
    { "BlobImmutableDueToPolicy", -EACCES, PLAIN,
      "a policy of the container forbids to change this blob" },
    { "BlobImmutableDueToLegalHold", -EACCES, PLAIN, "a legal hold forbids to change this blob" },
    { "LeaseIdMissing", -EBUSY, PLAIN,
      "somebody holds a lease on it: wait until it is given up, or break it" },
    { "LeaseAlreadyPresent", -EBUSY, PLAIN,
      "somebody holds a lease on it: wait until it is given up, or break it" },
    { "InvalidRange", -ESTALE, PLAIN, "the blob became shorter" },
    { "RequestBodyTooLarge", -EFBIG, PLAIN, "it is larger than the service accepts" },
    { "InvalidResourceName", -EINVAL, PLAIN, "the service does not accept this name" },
    { "InvalidUri", -EINVAL, PLAIN, "the service does not accept this name" },
    { "OutOfRangeInput", -EINVAL, PLAIN,
      "the service does not accept this name, or a length in it" },
    { "AccountLimitExceeded", -ENOSPC, PLAIN, "the account's limit is reached" },
    { "ServerBusy", -EAGAIN, AGAIN, "the service is busy and asks to slow down" },
    { "TooManyRequests", -EAGAIN, AGAIN, "the service asks to slow down" },
    { "OperationTimedOut", -EAGAIN, AGAIN, "the service took too long" },
    { "InternalError", -EAGAIN, AGAIN, "the service has a fault of its own" },
    { "RequestTimeout", -EAGAIN, AGAIN, "the service waited too long for the rest" },
};

/* Answers without a code: of what stands before a store. */
static const char *code_of_status(long status, bool of_blob)
{
    switch (status) {
    case 401:
        return "NoAuthenticationInformation";
    case 403:
        return "AuthenticationFailed";
    case 404:
        return of_blob ? "BlobNotFound" : "ContainerNotFound";
    case 408:
        return "RequestTimeout";
    case 412:
        return "ConditionNotMet";
    case 413:
        return "RequestBodyTooLarge";
    case 416:
        return "InvalidRange";
    case 429:
        return "TooManyRequests";
    case 500:
    case 502:
    case 504:
        return "InternalError";
    case 503:
        return "ServerBusy";
    }
    return "";
}

/* ---- who asks ---- */

/* "2036-01-01T00:00:00Z", "2036-01-01T00:00Z" or "2036-01-01" of a SAS. */
static bool sas_time(const char *sas, const char *key, int64_t *us)
{
    char text[64], day[80];

    if (!ty_az_sas_value(sas, key, text, sizeof text))
        return false;
    if (ty_time_parse(text, false, us) == 0)
        return true;
    snprintf(day, sizeof day, "%sT00:00:00Z", text);
    return ty_time_parse(day, false, us) == 0;
}

/* The service's time where its answer says it, else this machine's. */
static int64_t their_us(const struct ty_http_req *r)
{
    const char *date = ty_http_answer(r, "Date");
    int64_t us = date ? ty_az_when(date) : 0;

    return us ? us : ty_object_now_s() * 1000000;
}

/* 0: the SAS may be used at this time. */
static int judge_sas_time(const struct ty_az_store *s, const struct ty_http_req *r,
                          const char *doing, const char *path, struct ty_error *err)
{
    int64_t begins, ends, now = their_us(r);
    char a[32], b[32];

    ty_time_iso(now, b);
    if (sas_time(s->sas, "se", &ends) && ends <= now)
        return ty_object_say(&s->base, doing, path, -EACCES, err,
                             "the SAS has expired: it ended at %.19sZ (se), and it is %.19sZ now; "
                             "register the datastore with a new one",
                             ty_time_iso(ends, a), b);
    if (sas_time(s->sas, "st", &begins) && begins > now)
        return ty_object_say(
            &s->base, doing, path, -EACCES, err,
            "the SAS is not valid yet: it begins at %.19sZ (st), and it is %.19sZ now; "
            "wait, or register the datastore with another one",
            ty_time_iso(begins, a), b);
    return 0;
}

/* What is wrong with the key or SAS as far as times go; 0: nothing that can be seen. */
static int judge_times(const struct ty_az_store *s, const struct ty_http_req *r,
                       const struct saying *said, const char *doing, const char *path,
                       struct ty_error *err)
{
    int w;

    if (s->sas)
        return judge_sas_time(s, r, doing, path, err);
    if (!s->key.key)
        return ty_object_say(
            &s->base, doing, path, -EACCES, err,
            "it needs a key: register the datastore with account_key or sas_token");
    w = ty_object_judge_clock(&s->base, r, doing, path, NULL, err);
    if (w < 0 || !ty_starts_with(said->detail, "Request date header too old"))
        return w;
    return ty_object_say(&s->base, doing, path, -ETIME, err,
                         "this machine's clock and the service's are too far apart: set the clock "
                         "(timedatectl set-ntp true)");
}

static int say_who(const struct ty_az_store *s, const struct ty_http_req *r,
                   const struct saying *said, const char *doing, const char *path,
                   struct ty_error *err)
{
    int w = judge_times(s, r, said, doing, path, err);

    if (w < 0)
        return w;
    if (s->sas)
        return ty_object_say(
            &s->base, doing, path, -EACCES, err,
            "the service does not accept the signature of the SAS: it is not complete, is "
            "for another container or account, or the key it was made with has been "
            "changed; register the datastore with a new one");
    return ty_object_say(&s->base, doing, path, -EACCES, err,
                         "the account key is not one of account '%s': check account_key, which is "
                         "changed when keys are rotated, and account_name",
                         s->account);
}

static const struct need {
    const char *method, *query; /* in the URL; NULL: any */
    char right;
    const char *name;
} needs[] = {
    { "GET", "comp=list&", 'l', "list" }, { "GET", NULL, 'r', "read" },
    { "HEAD", NULL, 'r', "read" },        { "PUT", "restype=container", 'c', "create" },
    { "PUT", NULL, 'w', "write" },        { "DELETE", NULL, 'd', "delete" },
};

static int say_right(const struct ty_az_store *s, const struct ty_http_req *r, const char *doing,
                     const char *path, struct ty_error *err)
{
    const struct need *n = needs;
    char has[32] = "";

    while (strcmp(n->method, r->method) != 0 || (n->query && !strstr(r->url, n->query)))
        n++;
    if (s->sas && !ty_az_sas_value(s->sas, "sp", has, sizeof has))
        return ty_object_say(&s->base, doing, path, -EACCES, err,
                             "the stored policy of the SAS does not allow it: it needs '%c' (%s)",
                             n->right, n->name);
    if (s->sas)
        return ty_object_say(
            &s->base, doing, path, -EACCES, err,
            "the SAS does not allow it: it allows '%s' (sp), and this needs '%c' (%s); register the datastore with "
            "another one, with 'racwdl' for all that runs do",
            has, n->right, n->name);
    return ty_object_say(&s->base, doing, path, -EACCES, err, "the account key does not allow it");
}

static int say_denied(const struct ty_az_store *s, const struct ty_http_req *r,
                      const struct saying *said, const char *doing, const char *path,
                      struct ty_error *err)
{
    int w = judge_times(s, r, said, doing, path, err);

    if (w < 0)
        return w;
    if (strstr(said->message, "authenticate"))
        return say_who(s, r, said, doing, path, err);
    return ty_object_say(
        &s->base, doing, path, -EACCES, err,
        "the service does not let us in: check %s, and whether the account's network "
        "rules allow this machine's address (Networking of the storage account)",
        s->sas ? "that the SAS is for this container and its key was not changed"
               : "account_key and account_name");
}

/* ---- sentences ---- */

static int say_rule(const struct ty_az_store *s, const struct ty_http_req *r, const struct rule *k,
                    const struct saying *said, const char *doing, const char *path, int *again_ms,
                    struct ty_error *err)
{
    int after;

    switch (k->then) {
    case WHO:
        return say_who(s, r, said, doing, path, err);
    case RIGHT:
        return say_right(s, r, doing, path, err);
    case DENIED:
        return say_denied(s, r, said, doing, path, err);
    case MATCH:
        if (ty_http_asked(r, "If-None-Match") || k->result == -EEXIST)
            return ty_object_say(&s->base, doing, path, -EEXIST, err,
                                 "there is such a blob already, and overwrite is not set");
        return ty_object_say(&s->base, doing, path, -ESTALE, err, "the blob was changed meanwhile");
    case AGAIN:
        after = ty_http_retry_after_ms(r);
        *again_ms = after > 0                                       ? after
                    : strcmp(k->code, "ContainerBeingDeleted") == 0 ? DELETED_AGAIN_MS
                                                                    : 0;
        return ty_object_say(&s->base, doing, path, k->result, err, "%s (%ld%s%s)", k->clause,
                             r->status, *said->code ? " " : "", said->code);
    default:
        return ty_object_say(&s->base, doing, path, k->result, err, "%s", k->clause);
    }
}

static int say_unknown(const struct ty_az_store *s, const struct ty_http_req *r,
                       const struct saying *said, const char *doing, const char *path,
                       int *again_ms, struct ty_error *err)
{
    const char *id = ty_http_answer(r, "x-ms-request-id");
    int code = r->status >= 500   ? -EAGAIN
               : r->status == 403 ? -EACCES
                                  : -EPROTO,
        after = ty_http_retry_after_ms(r);

    if (code == -EAGAIN)
        *again_ms = after > 0 ? after : 0;
    return ty_object_say(&s->base, doing, path, code, err, "it answers %ld%s%s%s%s%s%.40s%s",
                         r->status, *said->code ? " " : "", said->code, *said->message ? ": " : "",
                         said->message, id ? " (request " : "", id ? id : "", id ? ")" : "");
}

static int say_no_answer(const struct ty_az_store *s, const struct ty_http_req *r,
                         const char *doing, const char *path, int *again_ms, struct ty_error *err)
{
    if (r->result == -EHOSTUNREACH && s->cloud)
        return ty_object_say(&s->base, doing, path, r->result, err,
                             "%s: check account_name and endpoint, and that this machine is online",
                             r->why);
    return ty_object_judge_result(&s->base, r, doing, path, again_ms, err);
}

int ty_az_judge(struct ty_object_store *base, const struct ty_http_req *r, const char *doing,
                const char *path, int *again_ms, struct ty_error *err)
{
    const struct ty_az_store *s = (const struct ty_az_store *)base;
    const char *code = r->result < 0 ? NULL : ty_http_answer(r, "x-ms-error-code");
    struct saying said = { 0 };

    *again_ms = -1;
    if (r->result < 0)
        return say_no_answer(s, r, doing, path, again_ms, err);
    if (r->status >= 200 && r->status < 300)
        return 0;
    if (r->text.len > 0)
        ty_xml_each(r->text.text, r->text.len, error_element, &said, NULL);
    if (code && *code)
        keep_line(said.code, sizeof said.code, code);
    code = *said.code ? said.code : code_of_status(r->status, path != NULL);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].code, code) == 0)
            return say_rule(s, r, &rules[i], &said, doing, path, again_ms, err);
    return say_unknown(s, r, &said, doing, path, again_ms, err);
}
