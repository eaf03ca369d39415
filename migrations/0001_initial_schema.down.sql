-- The rows go with the tables.
DROP TABLE exchanges;
DROP TABLE chats;
