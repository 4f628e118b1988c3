// Makes the three members a replica set, and the user of the servers. May be run again at any time.
const password = process.env.MONGO_PASSWORD;
const root = process.env.MONGO_ROOT_PASSWORD;
if (!password || !root) {
  throw new Error("MONGO_PASSWORD and MONGO_ROOT_PASSWORD must be set in .env");
}

const login = `mongodb://root:${encodeURIComponent(root)}@`;
const first = connect(`${login}mongo-1:27017/admin?directConnection=true`);
const members = ["mongo-1", "mongo-2", "mongo-3"];
try {
  first.adminCommand({ replSetGetStatus: 1 });
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  first.adminCommand({
    replSetInitiate: {
      _id: "keyworking",
      members: members.map((name, n) => ({ _id: n, host: `${name}:27017`, priority: n ? 1 : 2 })),
    },
  });
}

// The address waits until there is a primary.
const all = members.map((name) => `${name}:27017`).join(",");
const set = connect(`${login}${all}/keyworking?replicaSet=keyworking&authSource=admin`);
const roles = [{ role: "readWrite", db: "keyworking" }];
if (set.getUser("keyworking")) {
  set.updateUser("keyworking", { pwd: password, roles });
} else {
  set.createUser({ user: "keyworking", pwd: password, roles });
}
print("The replica set and its user are there");
