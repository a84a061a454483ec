/* postgres.c - a PostgreSQL server for one test program. */
#define _GNU_SOURCE /* nftw */
#include "postgres.h"

#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define READY_TRIES 1200 /* of 25 ms each */
#define PATH_SIZE   300

static char directory[64], programs[PATH_SIZE];
static pid_t server, owner;

static void
must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "PostgreSQL: %s\n", what);
    abort();
}

/* The newest version that Debian's packages installed. */
static bool
find_programs(void)
{
    glob_t found = {.gl_pathc = 0};
    bool good = glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0 && found.gl_pathc > 0;

    if (good)
        snprintf(programs, sizeof(programs), "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    return good;
}

/* As root, become the user "nobody", which owns the directory already. */
static void
drop_root(void)
{
    const struct passwd *nobody = getpwnam("nobody");

    must(nobody != NULL, "no user \"nobody\"");
    must(setgroups(0, NULL) == 0 && setgid(nobody->pw_gid) == 0 && setuid(nobody->pw_uid) == 0,
         "nobody");
}

/* Start a program of the server; it ends with this process. */
static pid_t
start_program(const char *const *arguments)
{
    char path[PATH_SIZE + 32];
    pid_t parent = getpid(), pid = fork();

    must(pid >= 0, "fork");
    if (pid != 0)
        return pid;
    snprintf(path, sizeof(path), "%s/%s", programs, arguments[0]);
    if (geteuid() == 0)
        drop_root();
    (void)prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (getppid() != parent || chdir(directory) != 0 || freopen("log", "a", stdout) == NULL ||
        freopen("log", "a", stderr) == NULL)
        _exit(1);
    execv(path, (char **)arguments);
    _exit(1);
}

static bool
is_ready(void)
{
    char conninfo[128];

    snprintf(conninfo, sizeof(conninfo), "host=%s dbname=postgres user=sti", directory);
    return PQping(conninfo) == PQPING_OK;
}

static void
serve(void)
{
    const struct timespec pause = {.tv_nsec = 25000000};
    const char *const arguments[] = {"postgres",
                                     "-D",
                                     "data",
                                     "-c",
                                     "listen_addresses=",
                                     "-c",
                                     "unix_socket_directories=..",
                                     "-c",
                                     "shared_buffers=16MB",
                                     "-c",
                                     "autovacuum=off",
                                     NULL};

    server = start_program(arguments);
    for (int i = 0; i < READY_TRIES && !is_ready(); i++) {
        must(waitpid(server, NULL, WNOHANG) == 0, "it has ended");
        nanosleep(&pause, NULL);
    }
    must(is_ready(), "it does not serve");
}

/* Trust authentication, as the directory belongs to the test; one user needs a password. */
static void
make_cluster(void)
{
    char path[PATH_SIZE];
    const char *const arguments[] = {"initdb", "-D", "data", "-U", "sti",        "-A",
                                     "trust",  "-E", "UTF8", "-N", "--locale=C", NULL};
    FILE *rules;
    int status = -1;
    pid_t pid = start_program(arguments);

    must(waitpid(pid, &status, 0) == pid && status == 0, "initdb");
    snprintf(path, sizeof(path), "%s/data/pg_hba.conf", directory);
    rules = fopen(path, "w");
    must(rules != NULL, path);
    fputs("local all guarded scram-sha-256\nlocal all all trust\n", rules);
    must(fclose(rules) == 0, path);
}

bool
postgres_start(void)
{
    const struct passwd *nobody = getpwnam("nobody");

    if (server != 0)
        return true;
    if (!find_programs())
        return false;
    owner = getpid();
    snprintf(directory, sizeof(directory), "/tmp/sti-postgres.XXXXXX");
    must(mkdtemp(directory) != NULL, directory);
    if (geteuid() == 0)
        must(nobody != NULL && chown(directory, nobody->pw_uid, nobody->pw_gid) == 0, directory);
    make_cluster();
    serve();
    (void)atexit(postgres_stop);
    return true;
}

static int
remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static void
quit(int number)
{
    (void)kill(server, number);
    (void)waitpid(server, NULL, 0);
    server = 0;
}

void
postgres_stop(void)
{
    if (server == 0 || owner != getpid())
        return;
    quit(SIGINT);
    (void)nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void
postgres_restart(void)
{
    quit(SIGQUIT);
    serve();
}

void
postgres_sql(const char *sql)
{
    char conninfo[160];
    PGconn *connection;
    PGresult *result;

    snprintf(conninfo, sizeof(conninfo),
             "host=%s dbname=postgres user=sti options='-c client_min_messages=error'", directory);
    connection = PQconnectdb(conninfo);
    result = PQexec(connection, sql);
    must(PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK,
         PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

void
postgres_uri(const char *schema, const char *more, char out[POSTGRES_URI_SIZE])
{
    char sql[256];

    snprintf(sql, sizeof(sql), "CREATE SCHEMA IF NOT EXISTS %s", schema);
    postgres_sql(sql);
    snprintf(out, POSTGRES_URI_SIZE,
             "postgresql:///postgres?host=%s&user=sti&options=-csearch_path%%3D%s%s", directory,
             schema, more);
}

const char *
postgres_or_file(const char *path)
{
    static char uri[POSTGRES_URI_SIZE];
    const char *kind = getenv("STI_TEST_STORE");
    char schema[64] = "s";
    size_t len = 1;

    if (kind == NULL || strcmp(kind, "postgresql") != 0)
        return path;
    if (!postgres_start()) {
        printf("skipped: PostgreSQL is not installed\n");
        exit(77); /* CTest's SKIP_RETURN_CODE */
    }
    for (path = strlen(path) > 40 ? path + strlen(path) - 40 : path; *path != '\0'; path++)
        schema[len++] =
            (*path >= 'a' && *path <= 'z') || (*path >= '0' && *path <= '9') ? *path : '_';
    schema[len] = '\0';
    postgres_uri(schema, "", uri);
    return uri;
}
